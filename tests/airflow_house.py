"""A real Airflow on a real PostgreSQL for tests, started by the stack on free ports."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from movie_mlops.domain.errors import EngineUnavailableError
from movie_mlops.orchestration import open_airflow
from movie_mlops.orchestration.airflow import AirflowRunner
from movie_mlops.orchestration.base import PipelineRun
from movie_mlops.orchestration.shapes import SHAPES
from movie_mlops.settings import Settings, load_settings
from movie_mlops.stack import Stack, free_ports

SMALL = {
    "MOVIE_MLOPS_SAMPLE_FILMS": "120",
    "MOVIE_MLOPS_SAMPLE_PEOPLE": "80",
    "MOVIE_MLOPS_SAMPLE_WATCHES_PER_PERSON": "25",
    "MOVIE_MLOPS_CANDIDATE_ALGORITHMS": "sequence_linear",
}


class AirflowHouse:
    """A home whose pipelines run in Airflow, and ways to ask and to hurt it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir()
        self.write_settings()
        self.stack = Stack(home, free_ports())
        self.url = ""
        self._tokens: dict[str, str] = {}
        self.runner: AirflowRunner

    def start(self) -> None:
        """Bring it up, and let nothing run that no test asked for."""
        self.stack.up(["airflow"])
        self.url = self.stack.ground("airflow").url("airflow")
        self.runner = open_airflow(self.url, "admin", self.secret("admin"))
        for name in SHAPES:
            self.pause(name, SHAPES[name].every_hours is not None)

    def write_settings(self, **more: str) -> None:
        """What the steps read when they begin."""
        lines = [f"{key}={value}" for key, value in {**SMALL, **more}.items()]
        (self.home / ".env").write_text("\n".join(lines) + "\n")

    def settings(self, **arguments: Any) -> Settings:
        return load_settings(self.home, **arguments)

    def secret(self, user: str) -> str:
        return self.stack.ground("airflow").secret(f"airflow/{user}")

    def pause(self, name: str, paused: bool) -> None:
        self.call("PATCH", f"/dags/{SHAPES[name].dag_id}", {"is_paused": paused})

    def call(
        self, method: str, path: str, body: dict[str, Any] | None = None, user: str = "admin"
    ) -> Any:
        """Airflow's REST as anybody may speak it; its status where it refuses."""
        if user not in self._tokens:
            login = {"username": user, "password": self.secret(user)}
            answer = httpx.post(f"{self.url}/auth/token", json=login, timeout=60)
            self._tokens[user] = answer.json()["access_token"]
        answer = httpx.request(
            method,
            f"{self.url}/api/v2{path}",
            json=body,
            headers={"Authorization": f"Bearer {self._tokens[user]}"},
            timeout=60,
        )
        return answer.json() if answer.is_success else answer.status_code

    def task(self, run_id: str, pipeline: str, step: str) -> dict[str, Any]:
        path = f"/dags/{SHAPES[pipeline].dag_id}/dagRuns/{run_id}/taskInstances/{step}"
        found: dict[str, Any] = self.call("GET", path)
        return found

    def ended(self, run_id: str, seconds: float = 250) -> PipelineRun:
        """The run's record when it has ended."""
        wait_for(
            lambda: self.runner.status(run_id).state != "running", f"the end of {run_id}", seconds
        )
        return self.runner.status(run_id)

    def kill(self) -> None:
        """SIGKILL for all processes of Airflow and for what its tasks started."""
        [status] = [each for each in self.stack.status() if each.name == "airflow"]
        family: dict[int, psutil.Process] = {}
        for pid in status.pids:
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                found = [process, *process.children(recursive=True)]
                family |= {each.pid: each for each in found}
        for process in family.values():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family.values(), timeout=20)


def wait_for(is_there: Callable[[], object], what: str, seconds: float = 90) -> None:
    """Look twice a second; on a machine that is busy Airflow may take long to answer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(EngineUnavailableError, httpx.TransportError):
            if is_there():
                return
        time.sleep(0.5)
    message = f"waited in vain for {what}"
    raise AssertionError(message)


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that other users may pass, as PostgreSQL's must when tests run as root."""
    folder = Path(tempfile.mkdtemp(prefix="movie-mlops-airflow-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def airflow_houses() -> Iterator[AirflowHouse]:
    """For a fixture: one that runs, or a skip that names what is missing."""
    with open_folder() as folder:
        house = AirflowHouse(folder / "home")
        for engine in house.stack.engines:
            lack = engine.missing() if engine.name in ("airflow", "postgresql") else None
            if lack is not None:
                text = (
                    lack.text if lack.text.startswith("no ") else f"no {engine.title}: {lack.text}"
                )
                pytest.skip(text)
        try:
            house.start()
            yield house
            house.runner.close()
        finally:
            house.stack.down()
