"""`tune`: search for better hyperparameters of one algorithm."""

import json
from pathlib import Path
from typing import Any

import click

_HELP = """Search for better hyperparameters of one algorithm, on validation films.

Films that `evaluate` and the gate use as test are never seen. The search keeps the gate's limits
(time per list, memory, size), every trial is a run in MLflow, and an interrupted search goes on
when it is called again. The best setting is used by the next training of this home.

\b
Examples
  movie-mlops tune sequence_linear --trials 30
  movie-mlops tune boosted --minutes 10
"""


@click.command(help=_HELP)
@click.argument("algorithm")
@click.option("--trials", type=click.IntRange(1, 10_000), default=20, show_default=True)
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="Stop after these.")
@click.option("--home", type=click.Path(path_type=Path), help="Folder of data/ and var/.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def tune(
    algorithm: str, trials: int, minutes: float | None, home: Path | None, as_json: bool
) -> None:
    """Search for better hyperparameters."""
    from movie_mlops.bootstrap import build_services
    from movie_mlops.cli.run import progress
    from movie_mlops.settings import load_settings, lower_priority

    services = build_services(load_settings(home))
    lower_priority()
    seconds = None if minutes is None else 60 * minutes
    try:
        with progress(f"tune {algorithm}") as report:
            found = services.tuning().run(algorithm, trials, seconds, report)
    finally:
        services.close()
    if as_json:
        click.echo(json.dumps(found))
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=found["study"], title_justify="left", caption=f"kept: {found['file']}")
    for column in ("trial", found["metric"], "setting"):
        table.add_column(column, overflow="fold")
    rows = [(str(tried["number"]), tried) for tried in found["tried_now"]]
    for label, tried in [*rows, (f"best: {found['best']['number']}", found["best"])]:
        value, note = tried[found["metric"]], tried.get("note", "")
        setting = ", ".join(
            f"{key} {_short(one)}"
            for key, one in tried.items()
            if key not in ("number", "note", found["metric"])
        )
        shown = "–" if value is None else f"{value:.4f}"
        table.add_row(label, shown, note or setting or "default")
    Console().print(table)


def _short(value: Any) -> str:
    if isinstance(value, list):
        return "/".join(_short(one) for one in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
