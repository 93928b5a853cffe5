"""The demo on real engines: a stack of its own on free ports, and what its engines tell."""

import json
import socket
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from movie_mlops.cli.demo_house import SMALL, DemoHouse
from movie_mlops.cli.demo_story import Story
from movie_mlops.cli.homes import make_admin_key
from movie_mlops.domain.errors import PipelineError
from movie_mlops.domain.versions import MOVIE_RECOMMENDER
from movie_mlops.settings import PREFIX, Settings, chosen_keys, load_settings

if TYPE_CHECKING:
    from movie_mlops.stack import Stack

FIRST = (
    "kafka",
    "redis",
    "mlflow",
    "airflow",
    "prometheus",
    "redis-exporter",
    "postgresql-exporter",
    "alertmanager",
)
LAST = ("feast",)
"""It serves what the first materialization has registered."""
FOLLOW_TABLES = ("training", "rating_training", "feature_engineering")


@contextmanager
def real_house(
    home: Path, kafka_home: Path | None, report: Callable[[str, str], None]
) -> Iterator[tuple[DemoHouse, "Stack"]]:
    """Engines and house; both end with the block.

    Raises:
        EngineUnavailableError: an engine is not installed, or does not start.
    """
    from movie_mlops.stack import Stack, free_ports

    ports = free_ports()
    make_admin_key(home)
    _write_settings(home)  # Airflow's tasks and Prometheus read them there
    stack = Stack(home, ports, kafka_home=kafka_home)
    try:
        stack.up(FIRST, report)
        keys = stack.environment()
        urls: dict[str, Any] = {key.removeprefix(PREFIX).lower(): keys[key] for key in keys}
        urls["feature_server_url"] = f"http://127.0.0.1:{ports['feast']}"
        with DemoHouse(load_settings(home, **urls)) as house:
            yield house, stack
    finally:
        stack.down(report=report)


class RealStory(Story):
    """The same chapters, and two that show the hops which an embedded engine does not have."""

    def __init__(self, house: DemoHouse, stack: "Stack") -> None:
        super().__init__(house)
        self._stack = stack

    def first_training(self) -> None:
        """Nobody asks for it: new tables are an asset in Airflow, and three DAGs wait for that."""
        runner, waiting = self._house.services.runner, {*FOLLOW_TABLES}

        def is_done() -> bool:
            for run in runner.runs():
                if run.pipeline not in waiting or "asset_triggered" not in run.run_id:
                    continue
                if run.state == "running":
                    now = run.steps[-1].name if run.steps else "queued"
                    status.update(f"Airflow: {run.pipeline}: {now}")
                elif run.state == "failed":
                    message = f"{run.pipeline} failed: {runner.status(run.run_id).error}"
                    raise PipelineError(message)
                else:
                    waiting.remove(run.pipeline)
                    self._say(f"[cyan]asset movie_tables → {run.pipeline}[/]: {run.state}")
                    for step in runner.status(run.run_id).steps:
                        self._tell(step)
            return not waiting

        with self._console.status("") as status:
            self._house.wait_for("the DAGs that new tables set off", is_done)

    def after_training(self) -> None:
        """Features have gone to Redis and come back through Feast's server."""
        self._chapter("Features in Redis, read through Feast's server")
        self._stack.up(LAST)
        found: dict[str, Any] = {}

        def answers() -> bool:
            found.update(self._house.call("/api/v1/features/user/1"))
            return True

        self._house.wait_for("features", answers)
        for name, value in found["features"].items():
            self._say(f"{name:<24}{value}")

    def tell(self) -> None:
        """All chapters, then who did the work."""
        super().tell()
        self._chapter("Who did it")
        runs = self._house.services.runner.runs()
        self._say(f"Airflow: {', '.join(sorted(f'{run.pipeline} {run.state}' for run in runs))}")
        versions = self._house.services.registry.list_models()
        shown = {each["name"]: len(each["latest_versions"]) for each in versions}
        self._say(f"MLflow on PostgreSQL: {shown[MOVIE_RECOMMENDER]} versions of the recommender")
        requests = self._asked_prometheus("sum(http_requests_total)")
        self._say(f"Prometheus: {float(requests[0]['value'][1]):,.0f} requests seen at the API")
        for target in self._asked_prometheus("up"):
            state, labels = target["value"][1], target["metric"]
            name = labels.get("engine", labels["job"])
            self._say(f"  {name:<16}{'up' if state == '1' else '[red]down[/]'}")
        table = Table("engine", "version", "port", "MB")
        memory = 0
        for each in self._stack.status():
            if each.state == "running":
                memory += each.memory_bytes
                megabytes = f"{each.memory_bytes / 1e6:,.0f}"
                table.add_row(each.title, each.version, str(each.port), megabytes)
        table.add_row("together", "", "", f"{memory / 1e6:,.0f}")
        self._console.print(table)

    def _asked_prometheus(self, query: str) -> list[dict[str, Any]]:
        url = f"{self._stack.ground('prometheus').url('prometheus')}/api/v1/query?"
        with urllib.request.urlopen(url + urllib.parse.urlencode({"query": query})) as answer:  # noqa: S310 (our own loopback URL)
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        if not found:
            raise click.ClickException(f"Prometheus knows nothing of {query}")
        return found


def tell_progress(name: str, text: str) -> None:
    """One line for each thing that happens with an engine."""
    Console(highlight=False, stderr=True).print(f"[dim]{name:>14}  {text}[/]")


def _write_settings(home: Path) -> None:
    """Put what the demo chooses into the home's `.env`, which every process of it reads."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    chosen = Settings(**{**SMALL, "home": home, "env": "staging", "port": port})
    with (home / ".env").open("a") as stream:
        stream.writelines(f"{key}={value}\n" for key, value in chosen_keys(chosen).items())
