"""`trace`: where an answer came from."""

import json
from pathlib import Path
from typing import Any

import click

_SHOWN = 10


@click.command()
@click.argument("request_id")
@click.option("--user", help="Whose answer, where one request asked for several.")
@click.option("--home", type=click.Path(path_type=Path), help="Folder of data/ and var/.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def trace(request_id: str, user: str | None, home: Path | None, *, as_json: bool) -> None:
    """Model, run, snapshot, code and known history behind the answer REQUEST_ID of the last day."""
    from movie_mlops.bootstrap import build_services
    from movie_mlops.bootstrap.rights import answer_tracing
    from movie_mlops.domain.interactions import parse_user_id
    from movie_mlops.settings import load_settings

    viewer = None if user is None else parse_user_id(user)
    services = build_services(load_settings(home))
    try:
        with answer_tracing(services) as tracing:
            found = tracing.trace(request_id, viewer)
    finally:
        services.close()
    click.echo(json.dumps(found)) if as_json else _print(found)


def _print(found: dict[str, Any]) -> None:
    plain = ("time", "kind", "user_id", "path", "experiment", "arm", "facts", "ratings")
    made_by = ("model", "model_version", "algorithm", "run_id", "code", "card_sha256")
    rows = [(name.replace("_", " "), found[name]) for name in (*plain[:4], *made_by, *plain[4:])]
    if found["snapshot"]:
        rows.append(("snapshot", _snapshot(found["snapshot"])))
    if found["history"]:
        rows.append(("history", _history(found["history"])))
    for place, item in enumerate(found["items"][:_SHOWN], 1):
        rows.append((f"film {place}", f"{item['title'] or '?'} ({item['movie_id']})"))
    click.echo(f"answer         {found['request_id']}")
    for name, value in rows:
        if value:
            click.echo(f"{name:<14} {value}")


def _snapshot(snapshot: dict[str, Any]) -> str:
    if not snapshot["is_kept"]:
        return f"{snapshot['tag']}, which is gone"
    rewritten = snapshot["erased_at"]
    since = f"; rewritten at {rewritten}, when a viewer was erased" if rewritten else ""
    return f"{snapshot['tag']} of {snapshot['created_at']}{since}"


def _history(history: dict[str, Any]) -> str:
    films = history["films"][-_SHOWN:]
    names = ", ".join(item["title"] or str(item["movie_id"]) for item in reversed(films))
    if history["erased_at"]:
        return f"the viewer was erased at {history['erased_at']}; known since then: {names or '-'}"
    count = f"{len(history['films'])} liked or watched, {len(history['hidden'])} seen"
    return f"{count}, up to {history['position']}; the latest: {names or 'none'}"
