"""`models`: what is registered, what is served, promotion and roll back."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from movie_mlops.domain.versions import REGISTERED_MODELS

if TYPE_CHECKING:
    from movie_mlops.bootstrap import Services
    from movie_mlops.pipelines.rebuilding import Rebuilt

_HOME = click.option("--home", type=click.Path(path_type=Path), help="Folder of data/ and var/.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_MODEL = click.argument("model", type=click.Choice(REGISTERED_MODELS))


@click.group()
def models() -> None:
    """Registered models: list, compare, promote, roll back, build again."""


@contextmanager
def _services(home: Path | None) -> Iterator["Services"]:
    from movie_mlops.bootstrap import build_services
    from movie_mlops.settings import load_settings

    services = build_services(load_settings(home))
    try:
        yield services
    finally:
        services.close()


@models.command("list")
@_HOME
@_JSON
def list_(home: Path | None, as_json: bool) -> None:
    """Every registered version, newest first."""
    from rich.console import Console
    from rich.table import Table

    with _services(home) as services:
        found = [v for model in services.registry.list_models() for v in model["latest_versions"]]
    if as_json:
        click.echo(json.dumps([asdict(version) for version in found]))
        return
    table = Table("model", "version", "alias", "algorithm", "snapshot", "figures")
    for each in found:
        figures = ", ".join(f"{key} {value:.4f}" for key, value in sorted(each.metrics.items())[:4])
        aliases = ", ".join(each.aliases)
        table.add_row(each.name, each.version, aliases, each.algorithm, each.snapshot, figures)
    Console().print(table)


@models.command()
@_MODEL
@click.argument("versions", nargs=-1, required=True)
@click.option(
    "--metrics",
    default="rmse,mae,r2,ndcg@10,hit_rate@10",
    show_default=True,
    help="Names separated by commas.",
)
@_HOME
def compare(model: str, versions: tuple[str, ...], metrics: str, home: Path | None) -> None:
    """Metrics of VERSIONS side by side as JSON; what does not exist is null."""
    with _services(home) as services:
        found = services.registry.compare_model_versions(model, versions, metrics.split(","))
    click.echo(json.dumps(found, indent=1))


@models.command()
@_MODEL
@click.argument("version")
@_HOME
def promote(model: str, version: str, home: Path | None) -> None:
    """Make VERSION the champion by hand, whatever the gate said."""
    with _services(home) as services:
        services.rollout.promote(model, version)
    click.echo(f"{model} v{version} is champion; every API process loads it within a second")


@models.command()
@_MODEL
@click.argument("version")
@_HOME
@_JSON
@click.pass_context
def rebuild(
    context: click.Context, model: str, version: str, home: Path | None, *, as_json: bool
) -> None:
    """Build VERSION again from its snapshot in a scratch folder and compare the bytes.

    Exit code 1 when they differ and no erasure since explains it.
    """
    from movie_mlops.bootstrap.rights import rebuilding

    with _services(home) as services:
        found = rebuilding(services).rebuild(model, version)
    if as_json:
        click.echo(json.dumps(asdict(found)))
    else:
        for line in _told(found):
            click.echo(line)
    if found.differences and not found.erased_at:
        context.exit(1)


def _told(found: "Rebuilt") -> Iterator[str]:
    yield f"{found.model} v{found.version}: {found.algorithm} on {found.snapshot}"
    if found.differences:
        yield f"not the same bytes: {', '.join(found.differences)}"
    else:
        yield f"the same bytes: {found.arrays} arrays and the card"
    if found.erased_at:
        yield (
            f"snapshot {found.snapshot} was rewritten at {found.erased_at}, when a viewer was "
            "erased: this version was trained with rows that are gone, so bytes may differ"
        )
    if found.code_then != found.code_now:
        yield f"trained by code {found.code_then or 'unknown'}, built again by {found.code_now}"


@models.command()
@_MODEL
@_HOME
def rollback(model: str, home: Path | None) -> None:
    """Put the previous champion back."""
    with _services(home) as services:
        version = services.rollout.roll_back(model)
    click.echo(f"{model} is back on v{version}")
