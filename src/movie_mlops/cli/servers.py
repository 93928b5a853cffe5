"""`api` and `worker`: one server process each."""

import gc
import os
import signal
import threading
import time
from pathlib import Path

import click

_HOME = click.option("--home", type=click.Path(path_type=Path), help="Folder of data/ and var/.")
_WITH_PARENT = click.option("--with-parent", is_flag=True, hidden=True, help="End when it ends.")


@click.command()
@_HOME
@click.option("--port", type=int, help="Port.  [default: 8000]")
@click.option("--fd", type=int, hidden=True, help="Take connections from this open socket.")
@click.option("--shared", is_flag=True, hidden=True, help="Share the port with processes like it.")
@_WITH_PARENT
def api(
    home: Path | None, port: int | None, fd: int | None, shared: bool, with_parent: bool
) -> None:
    """Serve the HTTP API (and the page, when it is built)."""
    gc.disable()  # what is made at the start stays; the server, when it is ready, turns it on
    import socket

    from movie_mlops.api.main import serve
    from movie_mlops.cli.children import join
    from movie_mlops.settings import load_settings

    if with_parent:
        end_with_parent()
    settings = load_settings(home, **({"port": port} if port is not None else {}))
    listener = socket.socket(fileno=fd) if fd is not None else None
    serve(settings, join(settings.host, settings.port) if shared else listener)


@click.command()
@_HOME
@_WITH_PARENT
def worker(home: Path | None, with_parent: bool) -> None:
    """Consume events into the lake, run schedules, answer for features and registry."""
    from movie_mlops.api.control import serve
    from movie_mlops.settings import load_settings

    if with_parent:
        end_with_parent()
    serve(load_settings(home))


def end_with_parent() -> None:
    """Ask this process to end when its supervisor is gone: no orphan keeps the port."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
