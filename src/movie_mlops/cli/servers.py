"""`api` and `worker`: one server process each."""

from pathlib import Path

import click


@click.command()
@click.option("--home", type=click.Path(path_type=Path), help="Folder of data/ and var/.")
@click.option("--port", type=int, help="Port.  [default: 8000]")
def api(home: Path | None, port: int | None) -> None:
    """Serve the HTTP API (and the page, when it is built)."""
    from movie_mlops.api.main import serve
    from movie_mlops.settings import load_settings

    serve(load_settings(home, **({"port": port} if port is not None else {})))


@click.command()
@click.option("--home", type=click.Path(path_type=Path), help="Folder of data/ and var/.")
def worker(home: Path | None) -> None:
    """Consume events into the lake, run schedules, answer for features and registry."""
    from movie_mlops.api.control import serve
    from movie_mlops.settings import load_settings

    serve(load_settings(home))
