"""`up`: choose the home, train what is missing, supervise API and worker until told to stop."""

import shutil
import signal
import sys
import time
import urllib.error
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import click

from movie_mlops.cli.children import STOP_SECONDS, Child, bind, join, stop_all
from movie_mlops.cli.homes import (
    SOURCES,
    choose_home,
    choose_source_url,
    make_admin_key,
    record_source,
)
from movie_mlops.cli.main import EXIT_CODES
from movie_mlops.domain.errors import ConfigurationError, EngineUnavailableError

if TYPE_CHECKING:
    import socket

    from movie_mlops.settings import Settings

QUICK_TRAINING = '{"candidates": ["sequence_linear"]}'
"""The first model comes in seconds; the next training chooses among all candidates."""
READY_SECONDS = 60.0
AGAIN_SECONDS = 20.0


@click.command()
@click.option(
    "--source",
    type=click.Choice(SOURCES),
    help="Where films come from; `sample` is invented and needs no network.  [default: sample]",
)
@click.option("--data", help="Folder, archive or release name of the source (movielens, imdb).")
@click.option("--home", type=click.Path(path_type=Path), help="Where data/ and var/ go.")
@click.option("--port", type=int, help="Port of API and page.  [default: 8000]")
@click.option("--workers", type=click.IntRange(1, 64), default=1, help="API processes.")
@click.option("--torch", is_flag=True, help="The PyTorch API beside; needs PyTorch.")
@click.option(
    "--torch-port", type=int, default=8001, envvar="TORCH_PORT", help="Port of the PyTorch API."
)
@click.option("--once", is_flag=True, help="Train what is missing, then stop; no servers.")
def up(
    source: str | None, data: str | None, home: Path | None, port: int | None, **how: Any
) -> None:
    """Everything on this machine: data, model, API and page.

    The first start collects data and trains (under a minute on the sample); later starts serve at
    once. Stops cleanly on Ctrl-C or SIGTERM.
    """
    from movie_mlops.orchestration.lock import writer_lock
    from movie_mlops.settings import child_environment, load_settings, turn_off_telemetry

    torch_port = how["torch_port"] if how["torch"] else None
    if torch_port is not None and find_spec("torch") is None:
        message = "PyTorch is not installed: `make up TORCH=1` installs it, or leave --torch out"
        raise ConfigurationError(message)
    turn_off_telemetry()
    arguments: dict[str, Any] = {"source_url": choose_source_url(home, source, data)}
    source = arguments["source_url"].partition(":")[0]
    home = choose_home(home, source)
    if port is not None:
        arguments["port"] = port
    load_settings(home, **arguments)  # a wrong setting is told before anything is written
    with writer_lock(home / "var" / "up.lock", "movie-mlops up"):
        record_source(home, source)
        make_admin_key(home)
        settings = load_settings(home, **arguments)
        house = _House(settings, child_environment(settings), how["workers"], torch_port)
        house.run(once=how["once"])


class _House:
    """The processes of one home."""

    def __init__(
        self,
        settings: "Settings",
        environment: dict[str, str],
        workers: int,
        torch_port: int | None,
    ) -> None:
        self._settings = settings
        self._environment = environment
        self._workers, self._torch_port = workers, torch_port
        self._stopping = Event()
        self._url = f"http://{settings.host}:{settings.port}"
        self._servers: list[Child] = []

    def run(self, *, once: bool) -> None:
        """Serve until a signal; the first training runs beside the servers."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._stopping.set())
        if once:
            self._train_missing()
        else:
            self._serve()

    def _serve(self) -> None:
        listener = bind(self._settings.host, self._settings.port)
        if self._workers > 1:  # nobody else has the port; from now on it is shared
            listener.close()
            listener = join(self._settings.host, self._settings.port)
        self._servers = [*self._api_children(listener), self._child("worker", ["worker"])]
        if self._torch_port is not None:
            command = ["torch", "--port", str(self._torch_port)]
            self._servers.append(self._child("torch", command))
        try:
            self._keep_alive()
            self._wait_ready()
            self._announce("serving" if self._champions() else "serving; training the first model")
            self._train_until_there()
            while not self._stopping.wait(0.5):
                self._keep_alive()
        finally:
            click.echo("stopping ...")
            listener.close()  # the port is free when the last API process lets go of it
            stop_all(self._servers)
            click.echo("stopped; everything acknowledged is on disk")

    def _api_children(self, listener: "socket.socket") -> list[Child]:
        """One takes our socket; several share the port, and a folder where metrics are added up."""
        more = {}
        command = ["api", "--fd", str(listener.fileno())]
        if self._workers > 1:
            samples = (self._settings.home / "var" / "metrics").absolute()
            shutil.rmtree(samples, ignore_errors=True)  # counters begin anew with the house
            samples.mkdir(parents=True)
            more["PROMETHEUS_MULTIPROC_DIR"] = str(samples)
            command = ["api", "--shared"]
        children = []
        for number in range(1, self._workers + 1):
            child = self._child("api" if self._workers == 1 else f"api-{number}", command)
            child.environment = child.environment | more
            child.listener = listener
            children.append(child)
        return children

    def _child(self, name: str, command: list[str]) -> Child:
        log = self._settings.home / f"var/logs/{name}.log"
        return Child(name, [*command, "--with-parent"], self._environment, log)

    def _keep_alive(self) -> None:
        for server in self._servers:
            server.keep_alive()

    def _train_until_there(self) -> None:
        """Train what is missing; an engine that is not there yet is waited for."""
        while self._train_missing() and not self._stopping.is_set():
            self._announce(f"waiting for an engine; trying again in {AGAIN_SECONDS:.0f} s")
            again = time.monotonic() + AGAIN_SECONDS
            while time.monotonic() < again and not self._stopping.wait(0.5):
                self._keep_alive()
        if not self._stopping.is_set():
            self._announce("ready")

    def _train_missing(self) -> bool:
        """Run what the home lacks, in order: recommender first, so that the page fills early.

        Returns:
            Whether an engine did not answer, so that it is worth trying again.
        """
        have = self._champions()
        chains = []
        first = [] if self._has_films() else ["data_collection"]
        has_people = not self._settings.source_url.startswith("imdb:")
        if "movie_recommender" not in have and has_people:
            chains.append([*first, "training", "rollout", "--parameters", QUICK_TRAINING])
            first = []
        if "movie_predictor" not in have:
            chains.append([*first, "rating_training", "rollout"])
        if not self._has_features() and has_people:
            chains.append(["feature_engineering"])
        if self._torch_port is not None and "neural_recommender" not in have and has_people:
            chains.append(["neural_training", "rollout"])
        codes = []
        for chain in chains:
            code = self._run_child(["run", "--wait", *chain])
            codes.append(code)
            if code and "data_collection" in chain and not self._has_films():
                sys.exit(code)  # nothing to serve, and the child has said why
        return EXIT_CODES[EngineUnavailableError] in codes

    def _has_features(self) -> bool:
        """Whether the online store of the settings was the last to be filled."""
        from movie_mlops.bootstrap.places import online_store_url
        from movie_mlops.features.store import materialized_into

        note = materialized_into(self._settings.home / "feast_repo")
        return note.exists() and note.read_text() == online_store_url(self._settings)

    def _has_films(self) -> bool:
        films = self._settings.lake_folder / "processed" / "movies.parquet"
        if not films.exists() and self._settings.lake_is_remote:
            self._run_child(["lake", "pull"])
        return films.exists()

    def _run_child(self, command: list[str]) -> int:
        """Exit code of one pipeline child; a failure is told and does not stop serving."""
        if self._stopping.is_set():
            return 0
        child = Child("pipeline", command, self._environment)
        child.keep_alive()
        while child.process is not None and child.process.poll() is None:
            if self._stopping.wait(0.2):
                child.stop()
                child.wait(time.monotonic() + STOP_SECONDS)
            else:
                self._keep_alive()
        if child.process is not None and child.process.returncode and not self._stopping.is_set():
            failed = f"`movie-mlops {' '.join(command)}` failed ({child.process.returncode})"
            more = "; what was there before stays in use" if self._has_films() else ""
            click.secho(failed + more, err=True, fg="red")
            return child.process.returncode
        return 0

    def _champions(self) -> set[str]:
        from movie_mlops.models.manifest import read_manifest

        manifest = read_manifest(self._settings.path(self._settings.serving_url))
        return {name for name, served in manifest.items() if served.champion}

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and not self._stopping.is_set():
            self._keep_alive()
            try:
                with urllib.request.urlopen(f"{self._url}/v2/health/live", timeout=2) as answer:  # noqa: S310 (our own loopback URL)
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                self._stopping.wait(0.1)
        if not self._stopping.is_set():
            message = f"the API did not answer on {self._url} within {READY_SECONDS:.0f} s"
            raise EngineUnavailableError(message)

    def _announce(self, state: str) -> None:
        click.secho(f"movie-mlops · {state} · {self._url}", bold=True)
