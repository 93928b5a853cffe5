"""`quality`: what viewers did with each model version's lists, with intervals."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from movie_mlops.models.serving.online_quality import Rate, VersionQuality


@click.command()
@click.option("--home", type=click.Path(path_type=Path), help="Folder of data/ and var/.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def quality(home: Path | None, as_json: bool) -> None:
    """Click-through, watch share and ratings of each version's lists of the last day (95 %).

    A list counts by the chance that its outcome would have arrived by now.
    """
    from movie_mlops.bootstrap import build_services
    from movie_mlops.settings import load_settings

    services = build_services(load_settings(home))
    try:
        found = services.online_quality()
    finally:
        services.close()
    if as_json:
        click.echo(json.dumps([asdict(each) for each in found]))
    else:
        _print(found)


def _print(found: "list[VersionQuality]") -> None:
    from rich.console import Console
    from rich.table import Table

    if not found:
        click.echo("no list was shown within a day")
        return
    table = Table(title="Lists of the last day by model version", title_justify="left")
    table.add_column("version")
    for title in ("lists", "viewers", "films", "clicked", "watched", "positive", "mean rating"):
        table.add_column(title, justify="right")
    for each in found:
        mean = "" if each.mean_rating is None else f"{each.mean_rating:.2f}"
        if each.mean_rating_low is not None:
            mean += f" ({each.mean_rating_low:.2f}–{each.mean_rating_high:.2f})"
        table.add_row(
            each.model_version,
            f"{each.exposures:,}",
            f"{each.viewers:,}",
            f"{each.films:,}",
            *(_shown(rate) for rate in (each.click_through, each.watch_share, each.positive_share)),
            mean,
        )
    Console().print(table)


def _shown(rate: "Rate") -> str:
    if rate.value is None or rate.low is None or rate.high is None:
        return "not yet"
    return f"{rate.value:.1%} ({rate.low:.1%}–{rate.high:.1%})"
