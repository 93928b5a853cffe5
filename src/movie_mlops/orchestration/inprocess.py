"""The embedded runner: each run is one child process at low priority, recorded as a JSON file."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from movie_mlops.domain.errors import (
    EngineUnavailableError,
    MovieMlopsError,
    PipelineError,
    StepFailedError,
    UnknownPipelineError,
)
from movie_mlops.orchestration.base import (
    Json,
    Pipeline,
    PipelineRun,
    Report,
    Step,
    StepRun,
    run_id_of,
)
from movie_mlops.orchestration.shapes import SHAPES

if TYPE_CHECKING:
    from apscheduler.schedulers.background import BackgroundScheduler

ATTEMPTS = 3
LOW_PRIORITY = 10
KEPT_RUNS = 200
_RUN_ID = re.compile(r"[a-z_]{1,40}-[0-9T]{15}-[0-9a-f]{8}")


class InProcessRunner:
    """Runs pipelines of this home; `environment` is what its children see."""

    def __init__(self, runs: Path, environment: Mapping[str, str]) -> None:
        self._runs = runs
        self._environment = dict(environment)
        self._scheduler: BackgroundScheduler | None = None
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def submit(self, pipeline: str, parameters: Json, run_id: str | None = None) -> str:
        """Start a child process for the run; see the port."""
        _check_known(pipeline)
        run_id = run_id or new_run_id(pipeline)
        if (self._runs / f"{run_id}.json").exists():
            return run_id
        follower = SHAPES[pipeline].then
        names = [pipeline] if follower is None else [pipeline, follower]
        command = [sys.executable, "-m", "movie_mlops", "run", *names, "--run-id", run_id]
        command += ["--wait", "--parameters", json.dumps(parameters)]
        # the child writes its own process number over this as soon as it is up
        self._write(_started(run_id, pipeline, os.getpid()))
        with (self._runs / f"{run_id}.log").open("wb") as log:
            child = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
        self._children[run_id] = child
        threading.Thread(target=child.wait, name=run_id, daemon=True).start()  # leaves no zombie
        return run_id

    def execute(
        self, pipeline: Pipeline, parameters: Json, report: Report, run_id: str | None = None
    ) -> PipelineRun:
        """Run all steps here, one after another, writing the record after each.

        A step that meets EngineUnavailableError is tried three times.

        Raises:
            StepFailedError: a step failed; the record names it.
        """
        run = _started(run_id or new_run_id(pipeline.name), pipeline.name, os.getpid())
        self._write(run)
        values = dict(parameters)
        for name, step in pipeline.steps.items():
            done = StepRun(name, "running")
            run.steps.append(done)
            self._write(run)
            report(name, 0, None)
            start = time.perf_counter()
            try:
                done.output = _attempt(step, values, report)
            except Exception as error:
                done.state, run.state = "failed", "failed"
                run.error = f"{name}: {error}"
                message = f"step {name} of {pipeline.name} failed: {error}"
                if isinstance(error, MovieMlopsError):
                    raise StepFailedError(message) from error
                raise
            finally:
                done.seconds = round(time.perf_counter() - start, 3)
                self._write(run)
            done.state = "succeeded"
            values |= done.output
        run.state = "succeeded"
        self._write(run)
        return run

    def status(self, run_id: str) -> PipelineRun:
        """The run's record; a run whose process is gone has failed. See the port."""
        path = self._runs / f"{run_id}.json"
        if not _RUN_ID.fullmatch(run_id) or not path.exists():
            message = f"no run {run_id[:80]!r}; the list of runs names them all"
            raise PipelineError(message)
        run = _read(path)
        if run.state == "running" and not self._is_alive(run):
            run = _read(path)  # it may have ended well in between
            if run.state == "running":
                run.state, run.error = "failed", run.error or "its process ended before it was done"
        return run

    def runs(self, limit: int = 50) -> list[PipelineRun]:
        """The latest runs, newest first."""
        return [self.status(path.stem) for path in self._files()[:limit]]

    def schedule(self, pipeline: str, every_hours: float) -> None:
        """Submit every so many hours; see the port."""
        # Airflow's environment imports this package for the shapes and has no APScheduler
        from apscheduler.schedulers.background import BackgroundScheduler  # noqa: PLC0415

        _check_known(pipeline)
        if self._scheduler is None:
            self._scheduler = BackgroundScheduler(timezone=UTC)
            self._scheduler.start()
        self._scheduler.add_job(
            self._submit_unless_running,
            "interval",
            (pipeline,),
            hours=every_hours,
            id=pipeline,
            coalesce=True,
            max_instances=1,
            replace_existing=True,
        )

    def ping(self) -> None:
        """Always there."""

    def close(self) -> None:
        """Stop scheduling."""
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=False)
            self._scheduler = None

    def _is_alive(self, run: PipelineRun) -> bool:
        import psutil  # noqa: PLC0415 (Airflow's environment imports this package for the shapes)

        child = self._children.get(run.run_id)
        if child is not None:
            return child.poll() is None
        try:
            return bool(psutil.Process(run.pid).status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False

    def _submit_unless_running(self, pipeline: str) -> None:
        if not any(run.state == "running" and run.pipeline == pipeline for run in self.runs(5)):
            self.submit(pipeline, {})

    def _files(self) -> list[Path]:
        return sorted(
            self._runs.glob("*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True
        )

    def _write(self, run: PipelineRun) -> None:
        self._runs.mkdir(parents=True, exist_ok=True)
        beside = self._runs / f".{run.run_id}"
        beside.write_text(json.dumps(run.to_json(), indent=1))
        beside.replace(self._runs / f"{run.run_id}.json")
        for old in self._files()[KEPT_RUNS:]:
            old.unlink(missing_ok=True)
            old.with_suffix(".log").unlink(missing_ok=True)


def new_run_id(pipeline: str) -> str:
    """A run id that sorts by time within its pipeline."""
    return run_id_of(pipeline, datetime.now(UTC), uuid4().hex)


def _started(run_id: str, pipeline: str, pid: int) -> PipelineRun:
    return PipelineRun(run_id, pipeline, "running", datetime.now(UTC).isoformat(), pid)


def _read(path: Path) -> PipelineRun:
    raw = json.loads(path.read_text())
    return PipelineRun(**{**raw, "steps": [StepRun(**step) for step in raw["steps"]]})


def _check_known(pipeline: str) -> None:
    if pipeline not in SHAPES:
        message = f"no pipeline {pipeline[:80]!r}; there are {', '.join(SHAPES)}"
        raise UnknownPipelineError(message)


def _attempt(step: Step, values: Json, report: Report) -> Json:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return step(values, report)
        except EngineUnavailableError as error:
            if attempt == ATTEMPTS:
                raise
            time.sleep(error.retry_after_seconds)
    raise AssertionError
