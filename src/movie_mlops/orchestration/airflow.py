"""Airflow as runner: each pipeline is a DAG, started and watched through Airflow's REST API."""

import logging
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

import httpx

from movie_mlops.domain.errors import (
    ConfigurationError,
    EngineUnavailableError,
    PipelineError,
    UnknownPipelineError,
)
from movie_mlops.orchestration.base import Json, PipelineRun, State, StepRun, run_id_of
from movie_mlops.orchestration.shapes import SHAPES, steps_of_run

TIMEOUT = httpx.Timeout(30.0, connect=3.0)
RETRY_AFTER_SECONDS = 5.0
PAGE = 100
"""Airflow's own bound for a page of a list."""
_LOG = logging.getLogger(__name__)
_OF_DAG = {shape.dag_id: shape.name for shape in SHAPES.values()}
_RUN_STATES: dict[str, State] = {"success": "succeeded", "failed": "failed"}
_STEP_STATES: dict[str, State] = {
    "success": "succeeded",
    "failed": "failed",
    "running": "running",
    "restarting": "running",
    "up_for_retry": "running",
    "deferred": "running",
}
"""Of tasks that have begun; the others are no steps of the run yet, or never."""
_NEEDED = ("metadatabase", "scheduler", "dag_processor")
_OWN_RUN_ID = re.compile(r"([a-z_]{1,40})-[0-9T]{15}-[0-9a-f]{8}")
_ERROR = "movie-mlops: "
"""How the command line begins the sentence that says what went wrong."""


class AirflowRunner:
    """Runs pipelines as DAG runs of the Airflow at `url`, as its user `username`.

    A run that Airflow began by itself (schedule, asset, its page) has the id `PIPELINE:RUN`.

    Raises:
        ConfigurationError: the URL has no host, or there is no password.
    """

    def __init__(self, url: str, username: str, password: str | None) -> None:
        if not urlsplit(url).hostname:
            message = f"MOVIE_MLOPS_RUNNER_URL: {url} names no host; use airflow+http://HOST:PORT"
            raise ConfigurationError(message)
        if not password:
            message = f"MOVIE_MLOPS_RUNNER_PASSWORD is not set: Airflow's password of {username}"
            raise ConfigurationError(message)
        self._url, self._username, self._password = url.rstrip("/"), username, password
        self._client = httpx.Client(base_url=self._url, timeout=TIMEOUT)
        self._token = ""

    def submit(self, pipeline: str, parameters: Json, run_id: str | None = None) -> str:
        """Trigger a run of the pipeline's DAG; see the port.

        Raises:
            UnknownPipelineError: no shape has this name, or Airflow does not know its DAG.
            PipelineError: Airflow refuses these parameters.
            ConfigurationError: Airflow refuses the user.
        """
        run_id = run_id or run_id_of(pipeline, datetime.now(UTC), uuid4().hex)
        body = {"dag_run_id": run_id, "logical_date": None, "conf": parameters}
        path = f"/dags/{_dag_id(pipeline)}/dagRuns"
        answer = self._ask("POST", path, body, also=(404, 409))
        if answer.status_code == 404:
            raise UnknownPipelineError(self._no_dag(pipeline))
        return run_id  # 409: it runs already, or has

    def status(self, run_id: str) -> PipelineRun:
        """The DAG run and its tasks; what the steps returned is there once the run has ended."""
        pipeline, dag_run_id = _place(run_id)
        path = f"/dags/{_dag_id(pipeline)}/dagRuns/{quote(dag_run_id, safe='')}"
        answer = self._ask("GET", path, also=(404,))
        if answer.status_code == 404:
            raise PipelineError(_no_run(run_id))
        run = _to_run(answer.json())
        tasks = self._ask("GET", f"{path}/taskInstances?limit={PAGE}").json()["task_instances"]
        run.steps = _steps(pipeline, tasks)
        if run.state == "running":
            return run
        for step in run.steps:
            if step.state == "succeeded":
                step.output = self._output(f"{path}/taskInstances/{step.name}")
            elif step.state == "failed":
                tries = next(each["try_number"] for each in tasks if each["task_id"] == step.name)
                said = self._said(f"{path}/taskInstances/{step.name}/logs/{tries}")
                run.error = f"{step.name}: {said}"
        if run.state == "failed":
            run.error = run.error or "Airflow ended it before a step failed"
        return run

    def runs(self, limit: int = 50) -> list[PipelineRun]:
        """The latest runs, newest first; what their steps returned is told by `status` alone."""
        body: Json = {"dag_ids": list(_OF_DAG), "order_by": "-run_after"}
        body["page_limit"] = min(limit, PAGE)
        found = self._ask("POST", "/dags/~/dagRuns/list", body).json()["dag_runs"]
        tasks = self._tasks_of([each["dag_run_id"] for each in found])
        runs = []
        for each in found:
            run = _to_run(each)
            mine = (each["dag_id"], each["dag_run_id"])
            own = [task for task in tasks if (task["dag_id"], task["dag_run_id"]) == mine]
            run.steps = _steps(run.pipeline, own)
            runs.append(run)
        return runs

    def schedule(self, pipeline: str, every_hours: float) -> None:
        """Un-pause the pipeline's DAG: its schedule is in its file, made from the shape.

        `every_hours` is therefore not sent. An Airflow that is away, or has not read its DAGs yet,
        is told in the log and is no error: nothing of ours is paused unless somebody paused it.
        """
        del every_hours
        path = f"/dags/{_dag_id(pipeline)}"
        try:
            answer = self._ask("PATCH", path, {"is_paused": False}, also=(404,))
        except EngineUnavailableError as error:
            _LOG.warning("%s; the schedule of %s is its own", error, pipeline)
            return
        if answer.status_code == 404:
            _LOG.warning("%s", self._no_dag(pipeline))

    def ping(self) -> None:
        """Return when Airflow, its scheduler and its database are well and it knows our DAGs.

        Raises:
            EngineUnavailableError: they are not, or not yet.
            ConfigurationError: Airflow refuses the user.
        """
        health = self._ask("GET", "/monitor/health").json()
        sick = [part for part in _NEEDED if health[part]["status"] != "healthy"]
        if sick:
            message = f"Airflow at {self._url} has no healthy {' and '.join(sick)}"
            raise EngineUnavailableError(message, RETRY_AFTER_SECONDS)
        known = self._ask("GET", f"/dags?limit={PAGE}&tags=movie-mlops").json()["dags"]
        lacking = sorted(_OF_DAG.keys() - {each["dag_id"] for each in known})
        if lacking:
            message = f"Airflow at {self._url} has not read these DAGs (yet): {', '.join(lacking)}"
            raise EngineUnavailableError(message, RETRY_AFTER_SECONDS)

    def close(self) -> None:
        """Close the connections; Airflow goes on with its schedules."""
        self._client.close()

    def _tasks_of(self, run_ids: list[str]) -> list[Json]:
        """All tasks of these runs, page by page."""
        found: list[Json] = []
        while run_ids:
            body = {"dag_ids": list(_OF_DAG), "dag_run_ids": run_ids, "page_offset": len(found)}
            page = self._ask("POST", "/dags/~/dagRuns/~/taskInstances/list", body).json()
            found += page["task_instances"]
            if not page["task_instances"] or len(found) >= page["total_entries"]:
                break
        return found

    def _output(self, task: str) -> Json:
        """What the step returned; nothing where Airflow keeps nothing of it."""
        path = f"{task}/xcomEntries/return_value?deserialize=false&stringify=false"
        answer = self._ask("GET", path, also=(404,))
        value = answer.json()["value"] if answer.status_code == 200 else None
        return value if isinstance(value, dict) else {}

    def _said(self, log: str) -> str:
        """The sentence with which the step's command ended, from the log of its last try."""
        answer = self._ask("GET", log, also=(404,))
        lines = answer.json()["content"] if answer.status_code == 200 else []
        events = [str(line.get("event", "")) for line in lines if isinstance(line, dict)]
        said = [event for event in events if event.startswith(_ERROR)]
        return said[-1].removeprefix(_ERROR) if said else "its log in Airflow says why"

    def _ask(
        self, method: str, path: str, body: Json | None = None, also: tuple[int, ...] = ()
    ) -> httpx.Response:
        """Airflow's answer; its errors are ours unless the status is in `also`."""
        url = f"{self._url}/api/v2{path}"
        answer = self._send(method, url, body)
        if answer.status_code == 401:  # no token yet, or it has run out
            self._log_in()
            answer = self._send(method, url, body)
        if answer.is_success or answer.status_code in also:
            return answer
        if answer.status_code in (401, 403):
            message = (
                f"Airflow at {self._url} does not let its user {self._username} do this "
                f"({method} {path}): MOVIE_MLOPS_RUNNER_USERNAME needs a role that may"
            )
            raise ConfigurationError(message)
        message = f"Airflow at {self._url} refuses {method} {path}: {_detail(answer)}"
        raise PipelineError(message)

    def _log_in(self) -> None:
        login = {"username": self._username, "password": self._password}
        answer = self._send("POST", f"{self._url}/auth/token", login)
        if not answer.is_success:
            message = (
                f"Airflow at {self._url} does not know its user {self._username} by this password "
                "(MOVIE_MLOPS_RUNNER_USERNAME, MOVIE_MLOPS_RUNNER_PASSWORD)"
            )
            raise ConfigurationError(message)
        self._token = answer.json()["access_token"]

    def _send(self, method: str, url: str, body: Json | None) -> httpx.Response:
        """One request.

        Raises:
            EngineUnavailableError: no answer in time, or one that says so.
        """
        headers = {"Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            answer = self._client.request(method, url, json=body, headers=headers)
        except httpx.HTTPError as error:
            message = (
                f"Airflow at {self._url} does not answer: {str(error) or type(error).__name__}"
            )
            raise EngineUnavailableError(message, RETRY_AFTER_SECONDS) from error
        is_json = answer.headers.get("content-type", "").startswith("application/json")
        if answer.status_code == 429 or answer.status_code >= 500:
            message = f"Airflow at {self._url} answers {answer.status_code}: {_detail(answer)}"
            raise EngineUnavailableError(message, RETRY_AFTER_SECONDS)
        if not is_json:
            message = f"MOVIE_MLOPS_RUNNER_URL: what answers at {self._url} is no Airflow 3"
            raise ConfigurationError(message)
        return answer

    def _no_dag(self, pipeline: str) -> str:
        dag_id = SHAPES[pipeline].dag_id
        return f"Airflow at {self._url} knows no DAG {dag_id}; are our airflow/dags its DAG folder?"


def _dag_id(pipeline: str) -> str:
    if pipeline not in SHAPES:
        message = f"no pipeline {pipeline[:80]!r}; there are {', '.join(SHAPES)}"
        raise UnknownPipelineError(message)
    return SHAPES[pipeline].dag_id


def _place(run_id: str) -> tuple[str, str]:
    """Pipeline and Airflow's id of a run."""
    own = _OWN_RUN_ID.fullmatch(run_id)
    pipeline, _, dag_run_id = (own[1], "", run_id) if own else run_id.partition(":")
    if pipeline not in SHAPES or not dag_run_id:
        raise PipelineError(_no_run(run_id))
    return pipeline, dag_run_id


def _no_run(run_id: str) -> str:
    return f"no run {run_id[:80]!r}; the list of runs names them all"


def _to_run(raw: Json) -> PipelineRun:
    pipeline, dag_run_id = _OF_DAG[raw["dag_id"]], raw["dag_run_id"]
    is_own = dag_run_id.startswith(f"{pipeline}-") and _OWN_RUN_ID.fullmatch(dag_run_id)
    return PipelineRun(
        run_id=dag_run_id if is_own else f"{pipeline}:{dag_run_id}",
        pipeline=pipeline,
        state=_RUN_STATES.get(raw["state"], "running"),
        started_at=raw["start_date"] or raw["run_after"],
        pid=0,  # no process of this machine
    )


def _steps(pipeline: str, tasks: list[Json]) -> list[StepRun]:
    """The tasks that have begun, in the order of the shape."""
    begun = {each["task_id"]: each for each in tasks if each["state"] in _STEP_STATES}
    return [
        StepRun(name, _STEP_STATES[begun[name]["state"]], round(begun[name]["duration"] or 0.0, 3))
        for _, name in steps_of_run(pipeline)
        if name in begun
    ]


def _detail(answer: httpx.Response) -> str:
    """What Airflow says about a refusal, short."""
    try:
        said: Any = answer.json()
    except ValueError:
        said = answer.text
    return str(said.get("detail", said) if isinstance(said, dict) else said)[:300]
