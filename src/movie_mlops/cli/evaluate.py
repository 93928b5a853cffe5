"""`evaluate`: every algorithm beside popularity, on any source."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

_SHOWN = {
    "recommendation": (
        "ndcg@10", "hit_rate@10", "recall@20", "mrr", "sampled_ndcg@10", "sampled_hit_rate@10",
        "coverage@10", "train_cpu_seconds", "peak_memory_mb", "bundle_mb", "list_ms",
    ),
    "rating": ("rmse", "mae", "r2", "coverage_90", "train_cpu_seconds", "peak_memory_mb"),
}  # fmt: skip


_HELP = """Measure every algorithm beside popularity.

The headline is the full ranking: each hidden film among all films that the user has not watched,
with 95 % intervals over users. The sampled figures (99 negatives) are there to compare with the
literature only. `list_ms` is the CPU time of one list of ten with its reasons. Below the table the
gate says which algorithm earns its place: dearer ones must be clearly better than cheaper ones,
within the limits of the settings GATE_LATENCY_MS, GATE_MEMORY_MB and GATE_BUNDLE_MB.

\b
Examples
  movie-mlops evaluate --data ml-latest-small
  movie-mlops evaluate --data ml-1m.zip --protocol temporal --plots pictures
  movie-mlops evaluate --data Data/ml-1m --protocol ncf --json
  movie-mlops evaluate --data Data/ml-1m --protocol ncf --algorithms blend,neural_blend
  movie-mlops evaluate --task rating --data imdb --json
"""


@click.command(help=_HELP)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="MovieLens folder or zip, IMDb folder, home or lake folder, or the NCF paper's files; "
    "left out: the lake of the present home.",
)
@click.option(
    "--protocol",
    type=click.Choice(["leave-last-out", "temporal", "ncf"]),
    default="leave-last-out",
    show_default=True,
    help="What is hidden: each user's last film, the last tenth of time, or what the files say.",
)
@click.option("--algorithms", default="", help="Names separated by commas; left out: all.")
@click.option(
    "--task", type=click.Choice(list(_SHOWN)), default="recommendation", show_default=True
)
@click.option("--seed", type=int, default=42, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
@click.option("--plots", type=click.Path(path_type=Path), help="Folder to draw the figures into.")
def evaluate(
    data: Path | None, protocol: str, task: str, as_json: bool, algorithms: str, **options: Any
) -> None:
    """Measure every algorithm beside popularity."""
    from movie_mlops.pipelines.evaluation import Evaluation, evaluate_rating, evaluate_recommenders

    if data is None:
        from movie_mlops.settings import load_settings

        settings = load_settings()
        data = settings.lake_folder
        if settings.lake_is_remote:
            from movie_mlops.bootstrap import build_services

            build_services(settings).lake.pull("processed")
    names = tuple(name.strip() for name in algorithms.split(",") if name.strip())
    wanted = Evaluation(data, protocol, names, options["seed"], options["plots"])
    run = evaluate_rating if task == "rating" else evaluate_recommenders
    with _progress() as report:
        figures = run(wanted, report)
    if as_json:
        click.echo(json.dumps(figures))
    else:
        _print_table(figures, _SHOWN[task])


@contextmanager
def _progress() -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(file=sys.stderr)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("evaluate", total=None)

        def report(what: str, done: int, total: int | None) -> None:
            bar.update(task, description=what, completed=done, total=total)

        yield report


def _print_table(figures: dict[str, Any], shown: tuple[str, ...]) -> None:
    from rich.console import Console
    from rich.table import Table

    title = ", ".join(
        f"{value:,} {key}" if isinstance(value, int) else str(value)
        for key, value in figures.items()
        if key in ("protocol", "users", "items", "films", "held_out")
    )
    table = Table(title=title, title_justify="left", caption="below a figure: its 95 % interval")
    table.add_column("algorithm")
    metrics = [m for m in shown if any(m in found for found in figures["algorithms"].values())]
    for metric in metrics:
        table.add_column(metric, justify="right")
    for name, found in figures["algorithms"].items():
        table.add_row(name, *(_cell(found.get(metric)) for metric in metrics))
    # Piped output has no width of its own: a table must not be cut there
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
    for name, segments in figures.get("segments", {}).items():
        _print_segments(name, segments)
    for name, reason in figures.get("left_out", {}).items():
        console.print(f"  {name}: left out, {reason}", highlight=False)
    for name, reason in figures.get("gate", {}).get("reasons", {}).items():
        console.print(f"  {name}: {reason}", highlight=False)
    if "gate" in figures:
        console.print(f"  the gate picks {figures['gate']['champion']}", highlight=False)


def _print_segments(name: str, segments: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{name} by decade and votes", title_justify="left")
    for column in ("segment", "films", "rmse", "bias", "covered"):
        table.add_column(column, justify="left" if column == "segment" else "right")
    for one in segments:
        shown = (f"{one['rmse']:.3f}", f"{one['bias']:+.3f}", f"{one['covered']:.3f}")
        table.add_row(one["segment"], f"{one['films']:,}", *shown)
    Console().print(table)


def _cell(figure: Any) -> str:
    if figure is None:
        return "–"
    if isinstance(figure, dict):
        return f"{figure['value']:.4f}\n{figure['low']:.3f}–{figure['high']:.3f}"
    return f"{figure:.3f}" if figure < 10 else f"{figure:,.1f}"
