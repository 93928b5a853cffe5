"""The contract of runners, on every engine; the embedded one starts real child processes."""

import time
from pathlib import Path

import pytest

from movie_mlops.domain.errors import (
    EngineUnavailableError,
    PipelineError,
    SourceFormatError,
    StepFailedError,
    UnknownPipelineError,
)
from movie_mlops.orchestration import InProcessRunner, open_runner
from movie_mlops.orchestration.base import Json, Pipeline, Report
from movie_mlops.settings import child_environment, load_settings


@pytest.fixture(params=["inprocess:"])
def runner(request: pytest.FixtureRequest, tmp_path: Path) -> InProcessRunner:
    settings = load_settings(tmp_path, source_url="movielens:/nowhere")
    return open_runner(request.param, tmp_path / "var" / "runs", child_environment(settings))


def no_report(what: str, done: int, total: int | None) -> None:
    pass


def test_steps_run_in_order_and_hand_on_what_they_return(runner: InProcessRunner) -> None:
    def first(values: Json, report: Report) -> Json:
        return {"a": values["start"] + 1}

    def second(values: Json, report: Report) -> Json:
        return {"b": values["a"] * 10}

    run = runner.execute(
        Pipeline("training", {"first": first, "second": second}), {"start": 1}, no_report
    )
    assert run.output() == {"a": 2, "b": 20}
    assert runner.status(run.run_id).to_json() == run.to_json()
    assert [each.run_id for each in runner.runs()] == [run.run_id]


def test_a_failed_step_is_recorded_and_ends_the_run(runner: InProcessRunner) -> None:
    def broken(values: Json, report: Report) -> Json:
        message = "half a file"
        raise SourceFormatError(message)

    with pytest.raises(StepFailedError, match="broken"):
        runner.execute(Pipeline("training", {"broken": broken, "never": broken}), {}, no_report)
    record = runner.runs()[0]
    assert (record.state, [step.state for step in record.steps]) == ("failed", ["failed"])
    assert "half a file" in record.error


def test_only_an_engine_that_is_away_is_tried_again(runner: InProcessRunner) -> None:
    calls = []

    def flaky(values: Json, report: Report) -> Json:
        calls.append(1)
        if len(calls) < 3:
            message = "away"
            raise EngineUnavailableError(message, retry_after_seconds=0.01)
        return {"tries": len(calls)}

    assert runner.execute(Pipeline("training", {"flaky": flaky}), {}, no_report).output() == {
        "tries": 3
    }


def test_unknown_names_are_errors(runner: InProcessRunner) -> None:
    with pytest.raises(UnknownPipelineError):
        runner.submit("no_such_pipeline", {})
    for run_id in ("../../etc/passwd", "training-20260101T000000-00000000"):
        with pytest.raises(PipelineError):
            runner.status(run_id)


def test_a_submitted_run_is_a_child_whose_end_is_seen(runner: InProcessRunner) -> None:
    run_id = runner.submit("data_collection", {})  # its source does not exist, so it fails
    deadline = time.monotonic() + 60
    while runner.status(run_id).state == "running" and time.monotonic() < deadline:
        time.sleep(0.1)
    record = runner.status(run_id)
    assert record.state == "failed"
    assert "/nowhere" in record.error
