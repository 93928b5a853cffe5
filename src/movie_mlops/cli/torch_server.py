"""`torch`: the PyTorch API, one server process."""

from pathlib import Path

import click


@click.command("torch")
@click.option("--home", type=click.Path(path_type=Path), help="Folder of data/ and var/.")
@click.option("--port", type=int, default=8001, show_default=True, help="Port.")
@click.option("--device", help="cpu, cuda, cuda:1, ...  [default: a GPU when there is one]")
@click.option("--with-parent", is_flag=True, hidden=True, help="End when it ends.")
def torch_server(home: Path | None, port: int, device: str | None, with_parent: bool) -> None:
    """Serve the PyTorch API: /predict, /recommend, /similar by the network."""
    from movie_mlops.api.torch_api import serve
    from movie_mlops.cli.servers import end_with_parent
    from movie_mlops.settings import load_settings

    if with_parent:
        end_with_parent()
    serve(load_settings(home), port, device)
