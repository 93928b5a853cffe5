"""The contract of runners, on every engine; what executes steps here has a contract of its own."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.airflow_house import AirflowHouse

from movie_mlops.domain.errors import (
    EngineUnavailableError,
    PipelineError,
    SourceFormatError,
    StepFailedError,
    UnknownPipelineError,
)
from movie_mlops.orchestration import open_local_runner
from movie_mlops.orchestration.base import Json, Pipeline, PipelineRunner, Report, run_id_of
from movie_mlops.orchestration.inprocess import InProcessRunner, new_run_id
from movie_mlops.settings import child_environment, load_settings

NOWHERE = "movielens:/nowhere"


@pytest.fixture(params=["inprocess", pytest.param("airflow", marks=pytest.mark.engine("airflow"))])
def runner(request: pytest.FixtureRequest) -> Iterator[PipelineRunner]:
    """A runner whose home has a source that does not exist: data collection fails."""
    if request.param == "inprocess":
        yield request.getfixturevalue("local")
        return
    house: AirflowHouse = request.getfixturevalue("airflow")
    house.write_settings(MOVIE_MLOPS_SOURCE_URL=NOWHERE)
    yield house.runner
    house.write_settings()


@pytest.fixture
def local(tmp_path: Path) -> InProcessRunner:
    settings = load_settings(tmp_path, source_url=NOWHERE)
    return open_local_runner(tmp_path / "var" / "runs", child_environment(settings))


def no_report(what: str, done: int, total: int | None) -> None:
    pass


def wait_for(is_there: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_there():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)


def test_a_runner_that_is_there_answers(runner: PipelineRunner) -> None:
    runner.ping()
    runner.schedule("rollout", 1_000)  # nothing of it is seen in the time of a test


def test_unknown_names_are_errors(runner: PipelineRunner) -> None:
    with pytest.raises(UnknownPipelineError):
        runner.submit("no_such_pipeline", {})
    with pytest.raises(UnknownPipelineError):
        runner.schedule("no_such_pipeline", 1)
    for run_id in ("../../etc/passwd", "training-20260101T000000-00000000"):
        with pytest.raises(PipelineError):
            runner.status(run_id)


@pytest.mark.timeout(400)
def test_a_run_goes_on_by_itself_once_and_its_failure_is_seen(
    runner: PipelineRunner,
) -> None:
    run_id = new_run_id("data_collection")
    for _ in range(2):  # a trigger that comes twice starts nothing again
        assert runner.submit("data_collection", {"cause": "a test"}, run_id) == run_id
        assert runner.status(run_id).state == "running"
    wait_for(lambda: runner.status(run_id).state != "running", 200)
    record = runner.status(run_id)
    assert (record.pipeline, record.state) == ("data_collection", "failed")
    assert [(step.name, step.state) for step in record.steps] == [("collect", "failed")]
    assert record.error.startswith("collect: ")
    assert "/nowhere" in record.error
    assert runner.submit("data_collection", {}, run_id) == run_id
    assert [each.run_id for each in runner.runs()].count(run_id) == 1
    assert runner.runs(1)[0].run_id == run_id
    assert runner.status(run_id).state == "failed"


def test_the_run_id_of_a_cause_is_always_the_same() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert run_id_of("training", at, "drift 1") == run_id_of("training", at, "drift 1")
    assert run_id_of("training", at, "drift 1") != run_id_of("training", at, "drift 2")


def test_steps_run_in_order_and_hand_on_what_they_return(local: InProcessRunner) -> None:
    def first(values: Json, report: Report) -> Json:
        return {"a": values["start"] + 1}

    def second(values: Json, report: Report) -> Json:
        return {"b": values["a"] * 10}

    run = local.execute(
        Pipeline("training", {"first": first, "second": second}), {"start": 1}, no_report
    )
    assert run.output() == {"a": 2, "b": 20}
    assert local.status(run.run_id).to_json() == run.to_json()
    assert [each.run_id for each in local.runs()] == [run.run_id]


def test_a_failed_step_is_recorded_and_ends_the_run(local: InProcessRunner) -> None:
    def broken(values: Json, report: Report) -> Json:
        message = "half a file"
        raise SourceFormatError(message)

    with pytest.raises(StepFailedError, match="broken"):
        local.execute(Pipeline("training", {"broken": broken, "never": broken}), {}, no_report)
    record = local.runs()[0]
    assert (record.state, [step.state for step in record.steps]) == ("failed", ["failed"])
    assert "half a file" in record.error


def test_only_an_engine_that_is_away_is_tried_again(local: InProcessRunner) -> None:
    calls = []

    def flaky(values: Json, report: Report) -> Json:
        calls.append(1)
        if len(calls) < 3:
            message = "away"
            raise EngineUnavailableError(message, retry_after_seconds=0.01)
        return {"tries": len(calls)}

    assert local.execute(Pipeline("training", {"flaky": flaky}), {}, no_report).output() == {
        "tries": 3
    }
