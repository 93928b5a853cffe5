"""`drift`: compare now, print a table with small bars, write Evidently's page when asked."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from movie_mlops.cli.run import progress

if TYPE_CHECKING:
    from movie_mlops.monitoring.drift import FeatureDrift

_HEIGHTS = "▁▂▃▄▅▆▇█"
_SHOWN_BINS = 12


@click.command()
@click.option("--home", type=click.Path(path_type=Path), help="Folder of data/ and var/.")
@click.option("--report", type=click.Path(path_type=Path), help="Write Evidently's page here.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def drift(home: Path | None, report: Path | None, as_json: bool) -> None:
    """Compare what people do and are answered with what the champion learnt.

    Publishes nothing; the pipeline `drift_detection` does. Exits with 0 whatever it finds.
    """
    from movie_mlops.bootstrap import build_services
    from movie_mlops.pipelines.drift_detection import sentence
    from movie_mlops.settings import load_settings

    services = build_services(load_settings(home))
    try:
        detection = services.drift_detection()
        with progress("drift") as told:
            found = detection.compare_now(datetime.now(UTC), told)
        if found is not None and report is not None:
            detection.write_page(found, report)
    finally:
        services.close()
    if found is None:
        click.echo("no champion to compare with: train a model first")
        return
    if as_json:
        outcome = {"model_version": found.version, "window_end": found.window_end.isoformat()}
        click.echo(json.dumps({**outcome, **found.report.to_json()}))
        return
    _print(found.report.features)
    click.echo(
        f"champion v{found.version}, until {found.window_end:%Y-%m-%d %H:%M} UTC: ", nl=False
    )
    click.echo(sentence(found.report))
    if report is not None:
        click.echo(f"Evidently's page: {report}")


def _print(features: "tuple[FeatureDrift, ...]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Learnt and now", title_justify="left")
    for title in ("feature", "group", "learnt", "now"):
        table.add_column(title)
    for title in ("values", "PSI", "bound", "KS / JS", "bound"):
        table.add_column(title, justify="right")
    table.add_column("drift")
    for each in features:
        shown = each.bins[:_SHOWN_BINS]
        shares = [[learnt for _, learnt, _ in shown], [now for _, _, now in shown]]
        top = max(max(side, default=0.0) for side in shares)
        figures = [f"{x:.4f}" for m in each.measures for x in (m.value, m.threshold)]
        bars = [_bars(side, top) for side in shares]
        drifted = "[bold red]yes[/]" if each.drifted else ""
        count = f"{each.current_count:,}"
        table.add_row(each.name, each.group, *bars, count, *figures, drifted)
    Console().print(table)


def _bars(shares: list[float], top: float) -> str:
    return "".join(_HEIGHTS[round(share / max(top, 1e-9) * 7)] for share in shares)
