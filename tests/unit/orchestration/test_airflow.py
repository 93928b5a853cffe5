"""What the REST client makes of Airflow's answers; a small real server gives them."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from click.testing import CliRunner

from movie_mlops.cli.run import run
from movie_mlops.domain.errors import (
    ConfigurationError,
    EngineUnavailableError,
    PipelineError,
    StepFailedError,
    UnknownPipelineError,
)
from movie_mlops.orchestration import open_airflow, open_local_runner, open_runner
from movie_mlops.orchestration.airflow import AirflowRunner
from movie_mlops.orchestration.shapes import SHAPES, steps_of_run

RUN = "rollout-20260101T000000-0123abcd"
DAG = "/api/v2/dags/movie_rollout"
TASKS = [step for _, step in steps_of_run("rollout")]
TOKEN = ("POST", "/auth/token")
Answer = tuple[int, Any]


class Server(ThreadingHTTPServer):
    """Says what the test puts into `answers`; a list is said one after another, the last for ever.

    `None` closes the connection without an answer. A request without the token is refused.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[tuple[str, str], Any] = {TOKEN: (201, {"access_token": "t1"})}
        self.seen: list[tuple[str, str, Any]] = []
        self.token = "t1"  # noqa: S105 (of this test)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def said(self, method: str, path: str) -> Answer | None:
        kept = self.answers.get((method, path), (404, {"detail": "not found"}))
        if isinstance(kept, list):
            kept = kept.pop(0) if len(kept) > 1 else kept[0]
        return kept


class Handler(BaseHTTPRequestHandler):
    server: Server

    def answer(self) -> None:
        path = self.path.partition("?")[0]
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        self.server.seen.append((self.command, self.path, body))
        is_known = self.headers.get("Authorization") == f"Bearer {self.server.token}"
        if (self.command, path) != TOKEN and not is_known:
            said: Answer | None = (401, {"detail": "Not authenticated"})
        else:
            said = self.server.said(self.command, path)
        if said is None:
            self.close_connection = True
            return
        status, content = said
        is_html = isinstance(content, str)
        data = content.encode() if is_html else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if is_html else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PATCH = answer  # noqa: N815 (names of the library)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def runner(server: Server) -> Iterator[AirflowRunner]:
    runner = open_airflow(server.url, "admin", "right")
    yield runner
    runner.close()


def dag_run(state: str, run_id: str = RUN, dag_id: str = "movie_rollout") -> dict[str, Any]:
    times = {"start_date": None, "run_after": "2026-01-01T00:00:00Z"}
    return {"dag_id": dag_id, "dag_run_id": run_id, "state": state, **times}


def task(name: str, state: str | None, tries: int = 1, **more: Any) -> dict[str, Any]:
    own = {"dag_id": "movie_rollout", "dag_run_id": RUN, "duration": 1.23456, **more}
    return {"task_id": name, "state": state, "try_number": tries, **own}


def has_run(server: Server, state: str, *tasks: dict[str, Any]) -> None:
    server.answers[("POST", f"{DAG}/dagRuns")] = (200, {})
    server.answers[("GET", f"{DAG}/dagRuns/{RUN}")] = (200, dag_run(state))
    found = {"task_instances": list(tasks), "total_entries": len(tasks)}
    server.answers[("GET", f"{DAG}/dagRuns/{RUN}/taskInstances")] = (200, found)


def has_output(server: Server, name: str, value: Any) -> None:
    path = f"{DAG}/dagRuns/{RUN}/taskInstances/{name}/xcomEntries/return_value"
    server.answers[("GET", path)] = (200, {"value": value})


def test_a_run_is_submitted_with_its_id_and_parameters(
    server: Server, runner: AirflowRunner
) -> None:
    server.answers[("POST", f"{DAG}/dagRuns")] = (200, {})
    assert runner.submit("rollout", {"cause": "drift"}, RUN) == RUN
    body = {"dag_run_id": RUN, "logical_date": None, "conf": {"cause": "drift"}}
    assert server.seen[-1] == ("POST", f"{DAG}/dagRuns", body)
    assert runner.submit("rollout", {}).startswith("rollout-")


def test_an_id_that_is_there_is_no_error(server: Server, runner: AirflowRunner) -> None:
    server.answers[("POST", f"{DAG}/dagRuns")] = (409, {"detail": "conflict"})
    assert runner.submit("rollout", {}, RUN) == RUN


def test_the_token_is_fetched_once_and_again_when_it_has_run_out(
    server: Server, runner: AirflowRunner
) -> None:
    server.answers[("POST", f"{DAG}/dagRuns")] = (200, {})
    runner.submit("rollout", {})
    runner.submit("rollout", {})
    assert [path for _, path, _ in server.seen].count("/auth/token") == 1
    server.token = "t2"  # noqa: S105
    server.answers[TOKEN] = (201, {"access_token": "t2"})
    runner.submit("rollout", {})
    assert [path for _, path, _ in server.seen].count("/auth/token") == 2


def test_a_wrong_password_names_the_settings(server: Server, runner: AirflowRunner) -> None:
    server.answers[TOKEN] = (401, {"detail": "Invalid credentials"})
    with pytest.raises(ConfigurationError, match="RUNNER_USERNAME, MOVIE_MLOPS_RUNNER_PASSWORD"):
        runner.runs()


def test_a_user_who_may_not_names_the_setting(server: Server, runner: AirflowRunner) -> None:
    server.answers[("POST", f"{DAG}/dagRuns")] = (403, {"detail": "Forbidden"})
    with pytest.raises(ConfigurationError, match=r"admin.*MOVIE_MLOPS_RUNNER_USERNAME"):
        runner.submit("rollout", {})


def test_a_token_that_is_refused_again_and_again_ends(
    server: Server, runner: AirflowRunner
) -> None:
    server.token = "another"  # noqa: S105
    with pytest.raises(ConfigurationError):
        runner.submit("rollout", {})


@pytest.mark.parametrize("answer", [(500, {"detail": "oh"}), (503, "busy"), (429, {}), None])
def test_an_airflow_that_is_unwell_may_be_asked_again(
    server: Server, runner: AirflowRunner, answer: Answer | None
) -> None:
    server.answers[("POST", f"{DAG}/dagRuns")] = answer
    with pytest.raises(EngineUnavailableError) as raised:
        runner.submit("rollout", {})
    assert raised.value.retry_after_seconds > 0


def test_an_airflow_that_is_not_there_may_be_asked_again() -> None:
    with Server() as gone:
        url = gone.url
    runner = open_airflow(url, "admin", "right")
    with pytest.raises(EngineUnavailableError, match="does not answer"):
        runner.ping()
    runner.schedule("training", 24)  # its schedule is its own
    runner.close()


def test_what_is_no_airflow_is_a_wrong_setting(server: Server, runner: AirflowRunner) -> None:
    server.answers[("GET", f"{DAG}/dagRuns/{RUN}")] = (200, "<html>another service</html>")
    with pytest.raises(ConfigurationError, match="MOVIE_MLOPS_RUNNER_URL"):
        runner.status(RUN)


def test_names_that_nobody_knows(server: Server, runner: AirflowRunner) -> None:
    with pytest.raises(UnknownPipelineError, match="no pipeline"):
        runner.submit("no_such_pipeline", {})
    assert server.seen == []
    with pytest.raises(UnknownPipelineError, match="movie_rollout"):
        runner.submit("rollout", {})  # this Airflow has other DAGs
    with pytest.raises(UnknownPipelineError, match="no pipeline"):
        runner.schedule("no_such_pipeline", 1)
    with pytest.raises(PipelineError, match=RUN):
        runner.status(RUN)


@pytest.mark.parametrize(
    "run_id", ["", "../../etc/passwd", "rollout", "rollout:", "no:1", "x-20260101T000000-00000000"]
)
def test_ids_that_cannot_be_are_not_sent(
    server: Server, runner: AirflowRunner, run_id: str
) -> None:
    with pytest.raises(PipelineError, match="no run"):
        runner.status(run_id)
    assert server.seen == []


def test_an_id_stays_one_part_of_the_path(server: Server, runner: AirflowRunner) -> None:
    with pytest.raises(PipelineError, match="no run"):
        runner.status("rollout:../../../variables?x=1#y")
    assert server.seen[-1][1] == f"{DAG}/dagRuns/..%2F..%2F..%2Fvariables%3Fx%3D1%23y"


def test_parameters_that_airflow_refuses(server: Server, runner: AirflowRunner) -> None:
    server.answers[("POST", f"{DAG}/dagRuns")] = (400, {"detail": "cause: 5 is not a string"})
    with pytest.raises(PipelineError, match="5 is not a string"):
        runner.submit("rollout", {"cause": 5})


@pytest.mark.parametrize(
    ("state", "shown"),
    [("queued", []), ("running", ["running"]), ("up_for_retry", ["running"]), (None, [])],
)
def test_a_run_that_goes_on(
    server: Server, runner: AirflowRunner, state: str | None, shown: list[str]
) -> None:
    has_run(server, "queued", task(TASKS[0], state, duration=None))
    found = runner.status(RUN)
    assert (found.run_id, found.pipeline, found.state) == (RUN, "rollout", "running")
    assert [(step.name, step.state, step.seconds) for step in found.steps] == [
        (TASKS[0], each, 0.0) for each in shown
    ]


def test_steps_come_in_order_with_what_they_returned(server: Server, runner: AirflowRunner) -> None:
    has_run(server, "success", *[task(name, "success") for name in reversed(TASKS)])
    for name in TASKS[:2]:
        has_output(server, name, {"note": name, name: 1})
    has_output(server, TASKS[2], "no JSON object")
    found = runner.status(RUN)
    assert (found.state, found.error) == ("succeeded", "")
    assert [step.name for step in found.steps] == TASKS
    assert found.steps[0].seconds == 1.235
    assert found.output() == {"note": TASKS[1], TASKS[0]: 1, TASKS[1]: 1}


def test_a_failed_run_says_what_its_step_said(server: Server, runner: AirflowRunner) -> None:
    failed, left_out = task(TASKS[1], "failed", tries=3), task(TASKS[2], "upstream_failed")
    has_run(server, "failed", task(TASKS[0], "success"), failed, left_out)
    events = ["Output:", "movie-mlops: no champion yet", "Command exited with return code 8"]
    log = {"content": [{"event": event} for event in events]}
    path = f"{DAG}/dagRuns/{RUN}/taskInstances/{TASKS[1]}/logs/3"
    server.answers[("GET", path)] = (200, log)
    found = runner.status(RUN)
    assert (found.state, found.error) == ("failed", f"{TASKS[1]}: no champion yet")
    assert [step.state for step in found.steps] == ["succeeded", "failed"]
    del server.answers[("GET", path)]
    assert runner.status(RUN).error == f"{TASKS[1]}: its log in Airflow says why"


def test_a_run_that_was_ended_from_outside(server: Server, runner: AirflowRunner) -> None:
    has_run(server, "failed", task(TASKS[0], None))
    assert "ended" in runner.status(RUN).error


def test_runs_come_with_their_steps_page_by_page(server: Server, runner: AirflowRunner) -> None:
    by_itself = "scheduled__2026-01-01T00:00:00+00:00"
    runs = [dag_run("running"), dag_run("success", by_itself, "movie_training_pipeline")]
    server.answers[("POST", "/api/v2/dags/~/dagRuns/list")] = (200, {"dag_runs": runs})
    other = task("prepare_training_data", "success", dag_run_id=by_itself)
    other["dag_id"] = "movie_training_pipeline"
    pages = [[task(TASKS[0], "running")], [other]]
    server.answers[("POST", "/api/v2/dags/~/dagRuns/~/taskInstances/list")] = [
        (200, {"task_instances": page, "total_entries": 2}) for page in pages
    ]
    first, second = runner.runs(7)
    assert (first.run_id, [step.name for step in first.steps]) == (RUN, [TASKS[0]])
    assert second.run_id == f"training:{by_itself}"
    assert [step.name for step in second.steps] == ["prepare_training_data"]
    asked = next(body for _, path, body in server.seen if path.endswith("dagRuns/list"))
    assert asked["page_limit"] == 7
    assert set(asked["dag_ids"]) == {shape.dag_id for shape in SHAPES.values()}


def test_the_id_of_a_run_that_airflow_began_leads_back_to_it(
    server: Server, runner: AirflowRunner
) -> None:
    path = f"{DAG}/dagRuns/manual__2026-01-01T00%3A00%3A00%2B00%3A00"
    server.answers[("GET", path)] = (200, dag_run("running", "manual__2026-01-01T00:00:00+00:00"))
    server.answers[("GET", f"{path}/taskInstances")] = (200, {"task_instances": []})
    run_id = "rollout:manual__2026-01-01T00:00:00+00:00"
    assert runner.status(run_id).run_id == run_id


def test_a_schedule_is_the_dags_own(
    server: Server, runner: AirflowRunner, caplog: pytest.LogCaptureFixture
) -> None:
    runner.schedule("rollout", 24)  # this Airflow has not read its DAGs yet
    assert "knows no DAG movie_rollout" in caplog.text
    server.answers[("PATCH", DAG)] = (200, {})
    runner.schedule("rollout", 24)
    assert server.seen[-1] == ("PATCH", DAG, {"is_paused": False})


def test_ping_asks_for_every_part_and_all_dags(server: Server, runner: AirflowRunner) -> None:
    parts = ("metadatabase", "scheduler", "dag_processor", "triggerer")
    health = {part: {"status": "healthy"} for part in parts} | {"triggerer": {"status": None}}
    dags = [{"dag_id": shape.dag_id} for shape in SHAPES.values()]
    server.answers[("GET", "/api/v2/monitor/health")] = (200, health)
    server.answers[("GET", "/api/v2/dags")] = (200, {"dags": dags[1:]})
    with pytest.raises(EngineUnavailableError, match="movie_data_collection"):
        runner.ping()
    server.answers[("GET", "/api/v2/dags")] = (200, {"dags": dags})
    runner.ping()
    health["scheduler"] = {"status": "unhealthy"}
    with pytest.raises(EngineUnavailableError, match="no healthy scheduler"):
        runner.ping()


def test_the_scheme_chooses_the_runner(tmp_path: Any, server: Server) -> None:
    local = open_local_runner(tmp_path, {})
    assert open_runner("inprocess:", local) is local
    there = open_runner(f"airflow+{server.url}", local, "admin", "right")
    server.answers[("POST", f"{DAG}/dagRuns")] = (200, {})
    there.submit("rollout", {})
    there.close()
    with pytest.raises(ConfigurationError, match="no runner has this scheme"):
        open_runner("cron:", local)
    with pytest.raises(ConfigurationError, match="MOVIE_MLOPS_RUNNER_PASSWORD"):
        open_runner("airflow+http://127.0.0.1:8080", local, "admin", None)
    with pytest.raises(ConfigurationError, match="names no host"):
        open_runner("airflow+http:8080", local, "admin", "x")


def test_the_command_follows_a_run_to_its_end(
    server: Server, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOVIE_MLOPS_RUNNER_PASSWORD", "right")
    arguments = ["rollout", "--home", str(tmp_path), "--runner", f"airflow+{server.url}"]
    arguments += ["--run-id", RUN]
    has_run(server, "success", *[task(name, "success") for name in TASKS])
    has_output(server, TASKS[0], {"note": "version 7 is champion"})
    done = CliRunner().invoke(run, arguments)
    assert done.exit_code == 0, done.output
    assert "version 7 is champion" in done.output
    as_json = json.loads(CliRunner().invoke(run, [*arguments, "--json"]).stdout)
    assert [record["state"] for record in as_json] == ["succeeded"]
    has_run(server, "failed", task(TASKS[0], "failed"))
    failed = CliRunner().invoke(run, arguments)
    assert isinstance(failed.exception, StepFailedError)
    assert f"run {RUN} failed: {TASKS[0]}" in str(failed.exception)
    refused = CliRunner().invoke(run, [*arguments, "--source", "sample:"])
    assert refused.exit_code == 2
    assert not (tmp_path / "var" / "run.lock").exists(), "nothing runs here"
