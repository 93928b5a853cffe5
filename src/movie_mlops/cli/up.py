"""`up`: choose the home, train what is missing, supervise API and worker until told to stop."""

import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import click

from movie_mlops.cli.homes import (
    SOURCES,
    choose_home,
    choose_source_url,
    make_admin_key,
    record_source,
)
from movie_mlops.domain.errors import ConfigurationError, EngineUnavailableError

if TYPE_CHECKING:
    from movie_mlops.settings import Settings

READY_SECONDS = 60.0
STOP_SECONDS = 15.0
LONGEST_PAUSE_SECONDS = 30.0
LARGEST_LOG_BYTES = 20_000_000


@dataclass(slots=True)
class _Child:
    """A process that is started again when it ends by itself, each time a little later."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path | None = None
    process: "subprocess.Popen[bytes] | None" = None
    next_start: float = 0.0
    starts: int = field(default=0)

    def keep_alive(self) -> None:
        """Start it when it does not run and its pause is over."""
        if self.process is not None and self.process.poll() is not None:
            pause = min(2.0**self.starts, LONGEST_PAUSE_SECONDS)
            ended = f"{self.name} ended ({self.process.returncode})"
            more = f" (its log: {self.log})" if self.log else ""
            click.secho(f"{ended}; starting it again in {pause:.0f} s{more}", err=True, fg="yellow")
            self.process, self.next_start = None, time.monotonic() + pause
        if self.process is None and time.monotonic() >= self.next_start:
            self.starts += 1
            with self._open_log() as log:
                self.process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
                    [sys.executable, "-m", "movie_mlops", *self.command],
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )

    def _open_log(self) -> Any:
        """Where its output goes: the log, begun anew when large, or this terminal."""
        if self.log is None:
            return nullcontext()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > LARGEST_LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        return self.log.open("ab")

    def stop(self) -> None:
        """Ask it to end."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def wait(self, deadline: float) -> None:
        """Wait for the end; kill after the deadline."""
        if self.process is None:
            return
        try:
            self.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@click.command()
@click.option(
    "--source",
    type=click.Choice(SOURCES),
    help="Where films come from; `sample` is invented and needs no network.  [default: sample]",
)
@click.option("--data", help="Folder, archive or release name of the source (movielens, imdb).")
@click.option("--home", type=click.Path(path_type=Path), help="Where data/ and var/ go.")
@click.option("--port", type=int, help="Port of API and page.  [default: 8000]")
@click.option("--once", is_flag=True, help="Train what is missing, then stop; no servers.")
def up(
    source: str | None, data: str | None, home: Path | None, port: int | None, once: bool
) -> None:
    """Everything on this machine: data, model, API and page.

    The first start collects data and trains (under a minute on the sample); later starts serve at
    once. Stops cleanly on Ctrl-C or SIGTERM.
    """
    from movie_mlops.orchestration.lock import writer_lock
    from movie_mlops.settings import child_environment, load_settings, turn_off_telemetry

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
        _House(settings, child_environment(settings)).run(once=once)


class _House:
    """The processes of one home."""

    def __init__(self, settings: "Settings", environment: dict[str, str]) -> None:
        self._settings = settings
        self._environment = environment
        self._stopping = Event()
        self._url = f"http://{settings.host}:{settings.port}"
        self._servers: list[_Child] = []

    def run(self, *, once: bool) -> None:
        """Serve until a signal; the first training runs beside the servers."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._stopping.set())
        if once:
            self._train_missing()
        else:
            self._serve()

    def _serve(self) -> None:
        if not _is_free(self._settings.host, self._settings.port):
            message = f"port {self._settings.port} is taken; choose another: make up PORT=8010"
            raise ConfigurationError(message)
        self._servers = [
            _Child(
                name,
                [name, "--with-parent"],
                self._environment,
                self._settings.home / f"var/logs/{name}.log",
            )
            for name in ("api", "worker")
        ]
        try:
            self._keep_alive()
            self._wait_ready()
            self._announce("serving" if self._champions() else "serving; training the first model")
            self._train_missing()
            if not self._stopping.is_set():
                self._announce("ready")
            while not self._stopping.wait(0.5):
                self._keep_alive()
        finally:
            click.echo("stopping ...")
            _stop_all(self._servers)
            click.echo("stopped; everything acknowledged is on disk")

    def _keep_alive(self) -> None:
        for server in self._servers:
            server.keep_alive()

    def _train_missing(self) -> None:
        """Run what the home lacks, in order: recommender first, so that the page fills early."""
        have = self._champions()
        home = self._settings.home
        chains = []
        first = [] if self._has_films() else ["data_collection"]
        has_people = not self._settings.source_url.startswith("imdb:")
        if "movie_recommender" not in have and has_people:
            chains.append([*first, "training", "rollout"])
            first = []
        if "movie_predictor" not in have:
            chains.append([*first, "rating_training", "rollout"])
        if not (home / "var/online.db").exists() and has_people:
            chains.append(["feature_engineering"])
        for chain in chains:
            code = self._run_child(["run", "--wait", *chain])
            if code and "data_collection" in chain and not self._has_films():
                sys.exit(code)  # nothing to serve, and the child has said why

    def _has_films(self) -> bool:
        lake = self._settings.path(self._settings.lake_url)
        return (lake / "processed" / "movies.parquet").exists()

    def _run_child(self, command: list[str]) -> int:
        """Exit code of one pipeline child; a failure is told and does not stop serving."""
        if self._stopping.is_set():
            return 0
        child = _Child("pipeline", command, self._environment)
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
                with urllib.request.urlopen(f"{self._url}/health", timeout=2) as answer:  # noqa: S310 (our own loopback URL)
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                self._stopping.wait(0.1)
        if not self._stopping.is_set():
            message = f"the API did not answer on {self._url} within {READY_SECONDS:.0f} s"
            raise EngineUnavailableError(message)

    def _announce(self, state: str) -> None:
        click.secho(f"movie-mlops · {state} · {self._url}", bold=True)


def _stop_all(servers: list[_Child]) -> None:
    for server in servers:
        server.stop()
    deadline = time.monotonic() + STOP_SECONDS
    for server in servers:
        server.wait(deadline)


def _is_free(host: str, port: int) -> bool:
    import socket

    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
