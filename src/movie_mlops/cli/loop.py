"""`loop`: what the closed loop did and where it stands; let it go on after it paged."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from movie_mlops.domain.versions import REGISTERED_MODELS

_HOME = click.option("--home", type=click.Path(path_type=Path), help="Folder of data/ and var/.")


@click.group()
def loop() -> None:
    """The closed loop: drift, training, gate, shadow, canary, champion or roll back."""


@loop.command()
@_HOME
@click.option("--limit", default=30, show_default=True, help="Newest steps to show.")
@click.option("--cause", help="Only what followed from this event.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def history(home: Path | None, limit: int, cause: str | None, as_json: bool) -> None:
    """Who moved what from where to where, and why; oldest first."""
    from rich.console import Console
    from rich.table import Table

    from movie_mlops.bootstrap import build_services
    from movie_mlops.settings import load_settings

    store = build_services(load_settings(home)).loop_store
    noted = store.history(limit, cause)[::-1]
    if as_json:
        click.echo(json.dumps([asdict(each.event) for each in noted], default=str))
        return
    table = Table("when (UTC)", "model", "what", "from → to", "why", "who", "cause")
    for each in noted:
        event = each.event
        table.add_row(
            f"{event.timestamp:%Y-%m-%d %H:%M:%S}",
            event.model_name,
            event.subject,
            f"{event.before} → {event.after}",
            event.reason,
            event.actor,
            event.cause,
        )
    console = Console()
    console.print(table)
    for state in store.rollouts():
        console.print(
            f"{state.model_name} v{state.version}: {state.stage} since {state.since:%H:%M}"
        )
    for model, reason in store.stopped().items():
        console.print(f"[red]{model}: stopped: {reason}[/]; `movie-mlops loop resume {model}`")


@loop.command()
@click.argument("model", type=click.Choice(REGISTERED_MODELS))
@_HOME
def resume(model: str, home: Path | None) -> None:
    """Let drift set trainings off again after the loop stopped and paged."""
    from movie_mlops.bootstrap import build_services
    from movie_mlops.settings import load_settings

    services = build_services(load_settings(home))
    try:
        was_stopped = services.resume_loop(model)
    finally:
        services.close()
    click.echo(f"{model}: " + ("running again" if was_stopped else "was not stopped"))
