"""`users`: the right to be forgotten."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from movie_mlops.pipelines.erasure import Receipt


@click.group()
def users() -> None:
    """Viewers: erase one everywhere."""


@users.command()
@click.argument("user")
@click.option("--home", type=click.Path(path_type=Path), help="Folder of data/ and var/.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--wait", is_flag=True, help="Wait while a pipeline holds this home.")
@click.option("--json", "as_json", is_flag=True, help="Print the receipt as JSON.")
def erase(user: str, home: Path | None, *, yes: bool, wait: bool, as_json: bool) -> None:
    """Remove USER from every store of this home, and write a receipt that does not name USER.

    `up` and `worker` may run meanwhile; pipelines may not. Killed in between, run it again. Who
    comes back under this id later is a new viewer: only what happens from now on counts.
    """
    from movie_mlops.bootstrap import build_services
    from movie_mlops.bootstrap.rights import user_erasure
    from movie_mlops.domain.interactions import parse_user_id
    from movie_mlops.orchestration.lock import run_lock, writer_lock
    from movie_mlops.settings import load_settings

    user_id = parse_user_id(user)
    settings = load_settings(home)
    if not yes:
        click.confirm(f"Remove {user_id!r} from {settings.home.absolute()} for good?", abort=True)
    with writer_lock(run_lock(settings.home), "movie-mlops users erase", wait=wait):
        services = build_services(settings)
        try:
            receipt, path = user_erasure(services).erase(
                user_id, lambda step: click.echo(step.replace("_", " "), err=True)
            )
        finally:
            services.close()
    if as_json:
        click.echo(json.dumps(asdict(receipt)))
    else:
        _print(receipt, path)


def _print(receipt: "Receipt", path: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("removed from", "rows", title="Erased", title_justify="left")
    for name, rows in receipt.removed.items():
        table.add_row(name, f"{rows:,}")
    console = Console()
    console.print(table)
    if receipt.snapshots:
        console.print(f"rewritten snapshots: {', '.join(receipt.snapshots)}", highlight=False)
    if receipt.models:
        console.print(f"trained with these rows: {', '.join(receipt.models)}", highlight=False)
    for text in receipt.remains:
        console.print(f"remains: {text}", highlight=False)
    click.echo(f"receipt: {path}")
