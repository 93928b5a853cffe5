"""The demo's home: its settings, its API and worker, and pipelines that run in this process."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click

from movie_mlops.cli.children import Child, bind, stop_all
from movie_mlops.orchestration.base import PipelineRun, Report, StepRun
from movie_mlops.orchestration.shapes import SHAPES
from movie_mlops.settings import Settings, child_environment, load_settings

if TYPE_CHECKING:
    pass

LONGEST_WAIT_SECONDS = 120.0


SMALL: dict[str, Any] = {
    "source_url": "sample:",
    "sample_films": 800,
    "sample_people": 400,
    "sample_watches_per_person": 30,
    "candidate_algorithms": ("sequence_linear", "popularity"),
    "promotion_samples": 300,
    "rollout_mode": "staged",
    "shadow_stage_share": 1.0,
    "shadow_stage_lists": 200,
    "canary_share": 0.5,
    "canary_attribution_minutes": 0.05,
    "writes_per_minute": 1_000_000,
    "writes_burst": 1_000_000,
    "drift_features": ("genre", "popularity", "era", "rating"),
    "host": "127.0.0.1",
    "port": 0,
}
"""A small home in which every stage takes seconds; what is not named is as everywhere."""


def demo_settings(home: Path, **more: Any) -> Settings:
    """The settings of a demo's home."""
    return load_settings(home, **{**SMALL, **more})


class DemoHouse:
    """A context: API and worker as `up` starts them, and the home's parts in this process."""

    def __init__(self, settings: Settings, replicas: int = 1) -> None:
        from movie_mlops.bootstrap import build_services

        self.settings, self.home = settings, settings.home
        self._is_remote = not settings.runner_url.startswith("inprocess:")
        self.longest_wait = LONGEST_WAIT_SECONDS * (3 if self._is_remote else 1)
        self.services = build_services(settings)
        self._listener = bind(settings.host, settings.port)
        self.port: int = self._listener.getsockname()[1]
        command = ["api", "--fd", str(self._listener.fileno())]
        names = ["api"] + [f"api-{number}" for number in range(2, replicas + 1)]
        self._servers = [self._child(name, command) for name in names]
        for server in self._servers:
            server.listener = self._listener
        self._servers.append(self._child("worker", ["worker"]))
        self._mine = threading.local()
        self._connections: list[http.client.HTTPConnection] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for connection in self._connections:
            connection.close()
        stop_all(self._servers)
        self.services.close()

    def start(self) -> None:
        """Start both processes, or again what ended."""
        for server in self._servers:
            server.keep_alive()

    def pids(self) -> dict[str, int]:
        """Process numbers of what runs, by name."""
        running = [(each.name, each.process) for each in self._servers]
        return {name: process.pid for name, process in running if process is not None}

    def call(
        self, path: str, body: dict[str, Any] | None = None, position: str = ""
    ) -> dict[str, Any]:
        """GET the path, or POST the body; connections are kept, one for each thread.

        Raises:
            click.ClickException: the API refused.
            OSError: the API is not there.
        """
        kept: http.client.HTTPConnection | None = getattr(self._mine, "connection", None)
        if kept is None:
            kept = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            self._mine.connection = kept
            self._connections.append(kept)
        headers = {"Content-Type": "application/json"} | (
            {"X-Position": position} if position else {}
        )
        try:
            kept.request(
                "GET" if body is None else "POST",
                path,
                None if body is None else json.dumps(body).encode(),
                headers,
            )
            answer = kept.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            kept.close()  # the next call opens it again
            raise
        if answer.status >= 400:
            message = f"{path} answered {answer.status}: {text[:300].decode(errors='replace')}"
            raise click.ClickException(message)
        found: dict[str, Any] = json.loads(text)
        return found

    def wait_for(self, what: str, is_there: Callable[[], bool]) -> float:
        """Seconds until it is there.

        Raises:
            click.ClickException: it never was.
        """
        began = time.monotonic()
        while time.monotonic() - began < self.longest_wait:
            self.start()
            try:
                if is_there():
                    return time.monotonic() - began
            except (OSError, http.client.HTTPException, click.ClickException):
                pass  # not up yet
            time.sleep(0.1)
        message = f"waited in vain for: {what}; the logs are in {self.home / 'var/logs'}"
        raise click.ClickException(message)

    def run(
        self, *names: str, report: Report, parameters: dict[str, Any] | None = None
    ) -> Iterator[StepRun]:
        """Run pipelines, one after another; the steps of each as it ends.

        On Airflow what follows a pipeline is part of its DAG.

        Raises:
            click.ClickException: a run on Airflow failed.
        """
        values = dict(parameters or {})
        is_done = ""
        for name in names:
            if name == is_done:
                continue
            if self._is_remote:
                record = self._follow(self.services.runner.submit(name, values), report)
                is_done = SHAPES[name].then or ""
            else:
                with self.holding():
                    runner, pipeline = self.services.local_runner, self.services.pipeline(name)
                    record = runner.execute(pipeline, values, report)
            values |= record.output()
            yield from record.steps

    def _follow(self, run_id: str, report: Report) -> PipelineRun:
        """The record of a run elsewhere when it has ended."""
        deadline = time.monotonic() + self.longest_wait
        while time.monotonic() < deadline:
            self.start()
            record = self.services.runner.status(run_id)
            if record.state == "succeeded":
                return record
            if record.state == "failed":
                raise click.ClickException(f"{run_id} failed: {record.error}")
            report(f"{run_id}: {record.steps[-1].name if record.steps else 'queued'}", 0, None)
            time.sleep(0.5)
        raise click.ClickException(f"{run_id} does not end")

    @contextmanager
    def holding(self) -> Iterator[None]:
        """No other pipeline of this home runs meanwhile."""
        from movie_mlops.orchestration.lock import run_lock, writer_lock

        with writer_lock(run_lock(self.home), "movie-mlops demo", wait=True):
            yield

    def _child(self, name: str, command: list[str]) -> Child:
        log = self.home / f"var/logs/{name}.log"
        return Child(name, [*command, "--with-parent"], child_environment(self.settings), log)
