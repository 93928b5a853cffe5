"""`demo`: a home of its own, a model, a click that changes a list; printed as it happens."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import click

READY_SECONDS = 180.0


@click.command()
@click.option("--home", type=click.Path(path_type=Path), help="Keep the demo's data here.")
def demo(home: Path | None) -> None:
    """Sample data, a trained model, a newcomer's first click and the list it changes."""
    if home is not None:
        _tell_story(home)
        return
    with tempfile.TemporaryDirectory(prefix="movie-mlops-demo-") as folder:
        _tell_story(Path(folder))


def _tell_story(home: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "movie_mlops", "up", "--home", str(home), "--port", str(port)]
    click.secho("1  Collect invented films, simulate people, train, serve", bold=True)
    with subprocess.Popen(command) as house:  # noqa: S603 (our own interpreter and module)
        try:
            _click_and_compare(f"http://127.0.0.1:{port}", house)
        finally:
            house.send_signal(signal.SIGTERM)
            house.wait()


def _click_and_compare(url: str, house: "subprocess.Popen[bytes]") -> None:
    user = f"newcomer-{os.getpid()}"
    listed = f"{url}/api/v1/recommendations?k=10&lang=en&user_id={user}"
    before = _wait_for(listed, "newcomer", house)
    click.secho(f"\n2  A newcomer's list ({before['path']}: nothing is known yet)", bold=True)
    _print_list(before)
    chosen = before["items"][3]
    click.secho(f"\n3  The newcomer likes «{chosen['title']}»", bold=True)
    event = {"user_id": user, "movie_id": chosen["movie_id"], "interaction_type": "like"}
    accepted = _call(f"{url}/api/v1/events/user-interaction", event)
    click.echo(f"   accepted at {accepted['position']}, durable before the answer")
    after = _call(listed, position=accepted["position"])
    click.secho(f"\n4  The next list ({after['path']}, no retraining)", bold=True)
    _print_list(after)
    old = {item["movie_id"] for item in before["items"]}
    new = [item for item in after["items"] if item["movie_id"] not in old]
    click.secho(f"\n   {len(new)} of 10 films are new to the list\n", fg="green")
    if not new or chosen["movie_id"] in {item["movie_id"] for item in after["items"]}:
        message = "the list did not change as it should; see the log above"
        raise click.ClickException(message)


def _wait_for(url: str, path: str, house: "subprocess.Popen[bytes]") -> dict[str, Any]:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and house.poll() is None:
        try:
            found = _call(url)
            if found["path"] == path:
                return found
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.3)
    message = "no model was served in time; `movie-mlops doctor` says what is missing"
    raise click.ClickException(message)


def _call(
    url: str, body: dict[str, Any] | None = None, position: str | None = None
) -> dict[str, Any]:
    data = json.dumps(body).encode() if body is not None else None
    headers = {"Content-Type": "application/json"}
    if position is not None:
        headers["X-Position"] = position
    request = urllib.request.Request(url, data, headers)  # noqa: S310 (our own loopback URL)
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        found: dict[str, Any] = json.loads(answer.read())
    return found


def _print_list(found: dict[str, Any]) -> None:
    for place, item in enumerate(found["items"], 1):
        click.echo(f"   {place:>2}  {item['title']:<42} {item['reason']['text']}")
