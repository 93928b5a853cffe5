"""`run` and `step`: pipelines here or on a runner, with a progress bar and a board at the end."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from movie_mlops.orchestration.base import PipelineRun, PipelineRunner, Report
from movie_mlops.orchestration.shapes import SHAPES

if TYPE_CHECKING:
    from movie_mlops.settings import Settings

LOOK_SECONDS = 1.0
LONGEST_AWAY_SECONDS = 120.0


def _pipelines_help() -> str:
    rows = [f"  {shape.name:<20} {shape.description}" for shape in SHAPES.values()]
    return "\b\nPipelines\n" + "\n".join(rows)


def _json(context: click.Context, parameter: click.Parameter, text: str) -> dict[str, Any]:
    """The option's value as a JSON object, else wrong usage."""
    try:
        found = json.loads(text)
    except ValueError as error:
        message = f"{text[:80]!r} is not JSON: {error}"
        raise click.BadParameter(message, context, parameter) from error
    if not isinstance(found, dict):
        message = f"{text[:80]!r} is not a JSON object"
        raise click.BadParameter(message, context, parameter)
    return found


_HELP = f"""Run pipelines one after another: in this process, whatever MOVIE_MLOPS_RUNNER_URL says.

With --runner they are started there and followed: Airflow's DAG of `training` rolls out too, the
home is that of Airflow's tasks, and a run that failed is exit code 11. Ctrl-C leaves it running.

{_pipelines_help()}"""


@click.command(help=_HELP)
@click.argument(
    "names", nargs=-1, required=True, type=click.Choice(list(SHAPES)), metavar="PIPELINE..."
)
@click.option("--home", type=click.Path(path_type=Path), help="Folder of data/ and var/.")
@click.option("--source", "source_url", help="sample:, movielens:PATH, tmdb:, imdb:PATH.")
@click.option("--parameters", default="{}", callback=_json, help="JSON for the first step.")
@click.option("--wait", is_flag=True, help="Wait while another run holds this home.")
@click.option("--runner", "runner_url", help="Start them on airflow+http://HOST:PORT instead.")
@click.option("--run-id", hidden=True, help="Id that the submitter gave to this run.")
@click.option("--json", "as_json", is_flag=True, help="Print the records as JSON, no board.")
def run(
    names: tuple[str, ...],
    home: Path | None,
    source_url: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Run pipelines."""
    from movie_mlops.settings import load_settings

    arguments: dict[str, Any] = {"source_url": source_url} if source_url else {}
    if options["runner_url"]:
        if source_url:
            message = "--source is a setting of the home that Airflow's tasks work on: set it there"
            raise click.UsageError(message)
        arguments["runner_url"] = options["runner_url"]
    settings = load_settings(home, **arguments)
    work = _follow if options["runner_url"] else _execute
    records = work(settings, names, options)
    if as_json:
        click.echo(json.dumps([record.to_json() for record in records]))
    else:
        _print_board(records)


def _execute(
    settings: "Settings", names: tuple[str, ...], options: dict[str, Any]
) -> list[PipelineRun]:
    """Run here, one after another; what one returned is there for the next."""
    from movie_mlops.bootstrap import build_services
    from movie_mlops.orchestration.lock import run_lock, writer_lock
    from movie_mlops.settings import lower_priority

    lower_priority()
    records: list[PipelineRun] = []
    what = f"movie-mlops run {' '.join(names)}"
    with writer_lock(run_lock(settings.home), what, wait=options["wait"]):
        services = build_services(settings)
        values = dict(options["parameters"])
        try:
            for name in names:
                with progress(name) as report:
                    pipeline = services.pipeline(name)
                    # the submitter's id is that of the first run
                    given = None if records else options["run_id"]
                    records.append(services.local_runner.execute(pipeline, values, report, given))
                values |= records[-1].output()
        finally:
            services.close()
    return records


def _follow(
    settings: "Settings", names: tuple[str, ...], options: dict[str, Any]
) -> list[PipelineRun]:
    """Start on the runner of the settings, one after another, and look until each has ended.

    Raises:
        StepFailedError: a run failed; the text says why.
        EngineUnavailableError: the runner is away for longer than two minutes.
    """
    from movie_mlops.bootstrap import build_services
    from movie_mlops.domain.errors import StepFailedError

    services = build_services(settings)
    values, records = dict(options["parameters"]), list[PipelineRun]()
    try:
        for name in names:
            with progress(name) as report:
                given = None if records else options["run_id"]
                run_id = services.runner.submit(name, values, given)
                records.append(_followed(services.runner, run_id, report))
            if records[-1].state == "failed":
                message = f"run {run_id} failed: {records[-1].error}"
                raise StepFailedError(message)
            values |= records[-1].output()
    finally:
        services.close()
    return records


def _followed(runner: PipelineRunner, run_id: str, report: Report) -> PipelineRun:
    """The record of the run when it has ended, each step told; an engine away is waited for."""
    from movie_mlops.domain.errors import EngineUnavailableError

    answered_at, told = time.monotonic(), 0
    while True:
        try:
            record = runner.status(run_id)
        except EngineUnavailableError:
            if time.monotonic() - answered_at > LONGEST_AWAY_SECONDS:
                raise
            report("waits for the runner to answer", 0, None)
        else:
            answered_at = time.monotonic()
            for step in record.steps[told:]:  # short ones are over between two looks
                report(step.name, 0, None)
            told = len(record.steps)
            if record.state != "running":
                return record
            if told == 0:
                report("waits for its turn", 0, None)
        time.sleep(LOOK_SECONDS)


@click.command()
@click.argument("pipeline", type=click.Choice(list(SHAPES)), metavar="PIPELINE")
@click.argument("name")
@click.option("--home", type=click.Path(path_type=Path), help="Folder of data/ and var/.")
@click.option(
    "--json", "inputs", default="{}", callback=_json, help="What earlier steps returned, as JSON."
)
def step(pipeline: str, name: str, home: Path | None, inputs: dict[str, Any]) -> None:
    """Run one step; the last line of standard output is its result as JSON.

    It waits while another run holds this home, so the tasks of Airflow and runs here take turns.
    """
    from movie_mlops.bootstrap import build_services
    from movie_mlops.domain.errors import UnknownPipelineError
    from movie_mlops.orchestration.lock import run_lock, writer_lock
    from movie_mlops.settings import load_settings, lower_priority

    if name not in SHAPES[pipeline].steps:
        message = f"{pipeline} has no step {name!r}; it has {', '.join(SHAPES[pipeline].steps)}"
        raise UnknownPipelineError(message)
    settings = load_settings(home)
    lower_priority()
    with writer_lock(run_lock(settings.home), f"movie-mlops step {pipeline} {name}", wait=True):
        services = build_services(settings)
        try:
            with progress(pipeline) as report:
                output = services.pipeline(pipeline).steps[name](inputs, report)
        finally:
            services.close()
    click.echo(json.dumps(output))


@contextmanager
def progress(pipeline: str) -> Iterator[Report]:
    """A bar on a terminal, else one line for each thing begun."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        last = ""

        def plain(what: str, done: int, total: int | None) -> None:
            nonlocal last
            del done, total
            if what != last:
                print(f"{pipeline}: {what}", file=sys.stderr, flush=True)
            last = what

        yield plain
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(pipeline, total=None)

        def report(what: str, done: int, total: int | None) -> None:
            bar.update(task, description=f"{pipeline}: {what}", completed=done, total=total)

        yield report


def _print_board(records: list[PipelineRun]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title="What was done", title_justify="left")
    for title in ("pipeline", "step"):
        table.add_column(title)
    table.add_column("seconds", justify="right")
    table.add_column("result", overflow="fold")
    for record in records:
        for done in record.steps:
            note = str(done.output.get("note", ""))
            table.add_row(record.pipeline, done.name, f"{done.seconds:.1f}", note)
    console.print(table)
    for record in records:
        for board in (done.output.get("board") for done in record.steps):
            if board:
                _print_quality(board)


def _print_quality(board: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=board["title"], title_justify="left")
    table.add_column("model")
    for metric in board["metrics"]:
        table.add_column(metric, justify="right")
    for name, figures in board["models"].items():
        table.add_row(name, *(str(figures.get(metric, "")) for metric in board["metrics"]))
    Console().print(table)
