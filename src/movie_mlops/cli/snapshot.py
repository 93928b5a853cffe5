"""`snapshot`: named, immutable states of the tables."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from movie_mlops.data.versions import DataVersionManager

_HOME = click.option("--home", type=click.Path(path_type=Path), help="Folder of data/ and var/.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def snapshot() -> None:
    """Data snapshots: create, list, diff, restore."""


@contextmanager
def _manager(
    home: Path | None, what: str, *, stops_worker: bool = False
) -> Iterator["DataVersionManager"]:
    from movie_mlops.bootstrap import build_services
    from movie_mlops.orchestration.lock import run_lock, worker_lock, writer_lock
    from movie_mlops.settings import load_settings

    settings = load_settings(home)
    holder = f"movie-mlops snapshot {what}"
    with ExitStack() as stack:
        stack.enter_context(writer_lock(run_lock(settings.home), holder))
        if stops_worker:
            stack.enter_context(writer_lock(worker_lock(settings.home), holder))
        services = build_services(settings)
        stack.callback(services.close)
        try:
            yield services.snapshots
        except ValueError as error:  # a tag that is malformed or taken
            raise click.UsageError(str(error)) from error


@snapshot.command()
@click.argument("tag")
@_HOME
def create(tag: str, home: Path | None) -> None:
    """Name the present state of the tables TAG."""
    with _manager(home, "create") as manager:
        made = manager.create_data_snapshot(tag)
    click.echo(f"snapshot {made.tag}: {len(made.files)} files, {made.size:,} bytes")


@snapshot.command("list")
@_HOME
@_JSON
def list_(home: Path | None, as_json: bool) -> None:
    """All snapshots, newest first."""
    with _manager(home, "list") as manager:
        found = manager.list_snapshots()
    if as_json:
        click.echo(json.dumps([each.to_json() for each in found]))
        return
    for each in found:
        click.echo(f"{each.tag:<24} {each.created_at}  {len(each.files):>4} files  {each.size:,} B")
    if not found:
        click.echo("no snapshot yet; `movie-mlops run data_collection` makes the first")


@snapshot.command()
@click.argument("old")
@click.argument("new")
@_HOME
def diff(old: str, new: str, home: Path | None) -> None:
    """What changed from OLD to NEW, file by file, as JSON."""
    with _manager(home, "diff") as manager:
        click.echo(json.dumps(manager.diff(old, new), indent=1))


@snapshot.command()
@click.argument("tag")
@_HOME
def restore(tag: str, home: Path | None) -> None:
    """Bring the tables back to TAG, the same bytes; the present state is saved first.

    `up` and `worker` must not run meanwhile; their next start applies later events again.
    """
    with _manager(home, "restore", stops_worker=True) as manager:
        saved = manager.restore_data_version(tag)
    click.echo(f"restored {tag}; what was here is snapshot {saved}")
