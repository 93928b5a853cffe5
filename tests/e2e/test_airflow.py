"""A real Airflow on a real PostgreSQL runs the pipelines of a home; the stack starts both."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.airflow_house import AirflowHouse, wait_for

from movie_mlops.bootstrap import build_services
from movie_mlops.cli.main import EXIT_CODES
from movie_mlops.domain.errors import ConfigurationError, EngineUnavailableError
from movie_mlops.domain.versions import MOVIE_RECOMMENDER
from movie_mlops.orchestration import open_airflow
from movie_mlops.orchestration.base import PipelineRun, run_id_of
from movie_mlops.orchestration.inprocess import new_run_id
from movie_mlops.orchestration.shapes import SHAPES, steps_of_run
from movie_mlops.settings import PREFIX
from movie_mlops.stack.airflow import DAGS, ENVIRONMENT, Airflow

pytestmark = [pytest.mark.engine("airflow"), pytest.mark.timeout(400)]

LOOK = """
import importlib, json, os, sys
import time
import airflow.providers.standard.operators.bash, airflow.sdk
from airflow.dag_processing.dagbag import DagBag
def names(asset):
    inside = getattr(asset, "objects", ())
    return [name for each in inside for name in names(each)] or [
        asset.name for _ in [0] if hasattr(asset, "name")
    ]
began = time.process_time()
bag = DagBag(sys.argv[1])
seconds = time.process_time() - began
found = {}
for dag in bag.dags.values():
    clock = getattr(dag.schedule, "timetable", dag.schedule)
    found[dag.dag_id] = {
        "file": dag.fileloc.rpartition("/")[2],
        "tasks": [task.task_id for task in dag.topological_sort()],
        "chain": [sorted(task.downstream_task_ids) for task in dag.topological_sort()],
        "owners": sorted({task.owner for task in dag.tasks}),
        "retries": sorted({task.retries for task in dag.tasks}),
        "backoff": sorted({task.retry_exponential_backoff for task in dag.tasks}),
        "timeouts": sorted({task.execution_timeout.total_seconds() for task in dag.tasks}),
        "docs": [dag.doc_md, *[task.doc_md for task in dag.tasks]],
        "params": {name: dag.params.get_param(name).dump() for name in dag.params},
        "levels": [task.env["SHLVL"] for task in dag.tasks],
        "commands": [task.bash_command for task in dag.tasks],
        "description": dag.description,
        "tags": sorted(dag.tags),
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "clock": getattr(clock, "expression", None),
        "assets": sorted(names(dag.timetable.asset_condition)),
        "outlets": [each.name for task in dag.tasks for each in task.outlets],
    }
ours = []
for name in sys.argv[2:]:
    try:
        importlib.import_module(name)
        ours.append(name)
    except ImportError:
        pass
import movie_mlops
inside = sorted(name for at in movie_mlops.__path__ for name in os.listdir(at))
print(json.dumps({"seconds": seconds, "dags": found, "errors": bag.import_errors,
                  "ours": ours, "inside": inside}))
"""


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What Airflow's own environment makes of the DAG files, without a server."""
    lack = Airflow().missing()
    if lack is not None:
        pytest.skip(lack.text)
    source = Path(__file__).resolve().parents[2] / "src" / "movie_mlops"
    names = [f"movie_mlops.{path.stem}" for path in source.iterdir() if path.suffix != ".typed"]
    home = tmp_path_factory.mktemp("airflow")
    environment = {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    environment["PYTHONPATH"] = ""  # what is installed there, not what whoever tests has beside
    ran = subprocess.run(
        [ENVIRONMENT / "bin" / "python", "-c", LOOK, str(DAGS), *names],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def test_the_dag_files_parse_in_under_a_second_of_cpu(parsed: Any) -> None:
    assert parsed["errors"] == {}
    assert parsed["seconds"] < 1


def test_airflows_environment_holds_nothing_of_ours_but_orchestration(parsed: Any) -> None:
    assert parsed["ours"] == ["movie_mlops.orchestration"]
    assert parsed["inside"] == ["orchestration"]


def test_every_shape_has_its_dag_with_all_that_a_person_needs(parsed: Any) -> None:
    dags = parsed["dags"]
    assert set(dags) == {shape.dag_id for shape in SHAPES.values()}
    for name, shape in SHAPES.items():
        dag = dags[shape.dag_id]
        steps = [step for _, step in steps_of_run(name)]
        assert dag["tasks"] == steps
        assert dag["chain"] == [[step] for step in steps[1:]] + [[]], "one after another"
        assert dag["owners"] == ["movie-mlops"]
        assert dag["retries"] == [2]
        assert dag["backoff"] == [2.0]
        assert len(dag["timeouts"]) == 1
        assert 0 < dag["timeouts"][0] <= 24 * 3600
        assert all(dag["docs"])
        assert shape.description in dag["docs"][0]
        assert dag["description"] == shape.description
        cause = dag["params"]["cause"]
        assert {"null", "string"} == set(cause["schema"]["type"])
        assert cause["schema"]["title"]
        assert cause["description"]
        assert set(dag["tags"]) == {"movie-mlops", name}
        assert (dag["catchup"], dag["max_active_runs"]) == (False, 1)
        assert (dag["clock"] is None) == (shape.every_hours is None)
        assert set(dag["levels"]) == {"1"}, "bash reads nobody's ~/.bashrc"
        for command, (pipeline, step) in zip(dag["commands"], steps_of_run(name), strict=True):
            assert f"movie-mlops step {pipeline} {step} " in command
            assert not re.search(r"{{|{%", command), "inputs are no part of the shell's text"
    assert dags["movie_drift_detection"]["clock"] == "0 */6 * * *"
    assert dags["movie_training_pipeline"]["clock"] == "0 0 * * *"
    files = {
        "movie_data_collection": "data_pipeline_dag.py",
        "movie_training_pipeline": "training_pipeline_dag.py",
        "movie_batch_prediction": "batch_prediction_dag.py",
        "movie_drift_detection": "drift_detection_dag.py",
    }
    assert {dag_id: dags[dag_id]["file"] for dag_id in files} == files


def test_assets_join_the_dags(parsed: Any) -> None:
    dags = parsed["dags"]
    assert dags["movie_data_collection"]["outlets"] == ["movie_tables"]
    assert dags["movie_feature_engineering"]["assets"] == ["movie_tables"]
    assert dags["movie_rating_training"]["assets"] == ["movie_tables"]
    assert dags["movie_training_pipeline"]["assets"] == ["drift_alert", "movie_tables"]
    assert dags["movie_drift_detection"]["outlets"] == [], "the loop trains, once"


@contextmanager
def api(home: Path) -> Iterator[str]:
    """The API's process on this home; its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    kept = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
    own = {f"{PREFIX}HOME": str(home), f"{PREFIX}PORT": str(port)}
    command = [sys.executable, "-m", "movie_mlops", "api"]
    with (home / "api.log").open("wb") as log:
        process = subprocess.Popen(command, env={**kept, **own}, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: answer(url) is not None, "the API", 60)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def answer(url: str) -> Any:
    with suppress(httpx.HTTPError):
        found = httpx.get(f"{url}/?k=10&user_id=1", timeout=5)
        return found.json() if found.is_success else None
    return None


def test_a_run_over_rest_ends_in_another_answer_of_the_api(airflow: AirflowHouse) -> None:
    runner = airflow.runner
    collected = airflow.ended(runner.submit("data_collection", {}))
    assert (collected.state, collected.error) == ("succeeded", "")
    assert [step.name for step in collected.steps] == list(SHAPES["data_collection"].steps)
    assert collected.steps[1].output["rows"] == {"movies": 120}
    registry = build_services(airflow.settings()).registry
    versions = {each["name"]: each["latest_versions"] for each in registry.list_models()}
    had = max((int(each.version) for each in versions.get(MOVIE_RECOMMENDER, [])), default=0)
    with api(airflow.home) as url:
        before = answer(url)
        runner.schedule("training", 24)  # its DAG is paused: nobody asked for it yet
        run_id = run_id_of("training", datetime.now(UTC), "a test's drift")
        for _ in range(2):  # the same cause twice is one run
            assert runner.submit("training", {"cause": "a test's drift"}, run_id) == run_id
        trained = airflow.ended(run_id)
        assert (trained.state, trained.error) == ("succeeded", "")
        assert [step.name for step in trained.steps] == [
            name for _, name in steps_of_run("training")
        ]
        version = trained.output()["version"]
        assert int(version) > had  # the new tables, an asset, may have started one before it
        assert cause_of(airflow, trained) == "a test's drift"
        wait_for(lambda: answer(url) != before, "another answer", 30)
    ours = [each for each in runner.runs() if each.run_id == run_id]
    assert [(each.pipeline, each.state) for each in ours] == [("training", "succeeded")]
    assert len(ours[0].steps) == len(trained.steps)


def cause_of(airflow: AirflowHouse, trained: PipelineRun) -> str:
    """What MLflow keeps of why this model was trained."""
    registry = build_services(airflow.settings()).registry
    run = registry._call("get_run", trained.output()["run_id"])
    return str(run.data.tags["cause"])


def test_one_asset_event_over_rest_starts_training(airflow: AirflowHouse) -> None:
    airflow.pause("training", False)
    known = {each.run_id for each in airflow.runner.runs()}
    assets = airflow.call("GET", "/assets?name_pattern=drift_alert")["assets"]
    [asset_id] = [each["id"] for each in assets if each["name"] == "drift_alert"]
    airflow.call("POST", "/assets/events", {"asset_id": asset_id, "extra": {"psi": 0.31}})

    def started() -> list[str]:
        new = [each for each in airflow.runner.runs() if each.run_id not in known]
        return [each.run_id for each in new if each.pipeline == "training"]

    wait_for(started, "a training", 30)
    [run_id] = started()
    assert run_id.startswith("training:asset_triggered__")
    record = airflow.ended(run_id)
    assert record.state == "succeeded", record.error
    assert f"training:{cause_of(airflow, record)}" == run_id


def test_a_failing_task_is_tried_again(airflow: AirflowHouse) -> None:
    airflow.write_settings(MOVIE_MLOPS_SOURCE_URL="movielens:/nowhere")
    airflow.pause("training", True)
    try:
        run_id = airflow.runner.submit("data_collection", {})
        task = ("data_collection", "collect")
        wait_for(lambda: airflow.task(run_id, *task)["state"] == "up_for_retry", "a retry")
        assert airflow.runner.status(run_id).state == "running"
    finally:
        airflow.write_settings()  # the source is there again
    record = airflow.ended(run_id)
    assert (record.state, record.error) == ("succeeded", "")
    assert airflow.task(run_id, *task)["try_number"] == 2


def test_airflow_refuses_whom_it_should(airflow: AirflowHouse) -> None:
    viewer = open_airflow(airflow.url, "viewer", airflow.secret("viewer"))
    known = viewer.runs()
    with pytest.raises(ConfigurationError, match=r"viewer.*MOVIE_MLOPS_RUNNER_USERNAME"):
        viewer.submit("rollout", {})
    viewer.close()
    body = {"logical_date": None}
    assert airflow.call("POST", "/dags/movie_rollout/dagRuns", body, "viewer") == 403
    login = {"username": "admin", "password": "admin"}
    assert httpx.post(f"{airflow.url}/auth/token", json=login, timeout=20).status_code == 401
    assert httpx.get(f"{airflow.url}/api/v2/dags", timeout=20).status_code == 401
    stranger = open_airflow(airflow.url, "admin", "admin")
    with pytest.raises(ConfigurationError, match="MOVIE_MLOPS_RUNNER_PASSWORD"):
        stranger.submit("rollout", {})
    stranger.close()
    assert [each.run_id for each in airflow.runner.runs()] == [each.run_id for each in known]


def test_the_command_starts_a_run_there_and_follows_it(airflow: AirflowHouse) -> None:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
    command = [sys.executable, "-m", "movie_mlops", "run", "rollout", "--home", str(airflow.home)]
    command += ["--runner", f"airflow+{airflow.url}"]
    environment = {**kept, f"{PREFIX}RUNNER_PASSWORD": airflow.secret("admin")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "rollout: roll_out_recommender" in done.stderr
    assert "roll_out_predictor" in done.stdout
    refused = subprocess.run(command, env=kept, capture_output=True, text=True, check=False)
    assert refused.returncode == EXIT_CODES[ConfigurationError]
    assert "MOVIE_MLOPS_RUNNER_PASSWORD" in refused.stderr


def test_an_airflow_that_is_killed_in_a_task_loses_nothing(airflow: AirflowHouse) -> None:
    run_id = new_run_id("rollout")
    airflow.runner.submit("rollout", {}, run_id)
    first = SHAPES["rollout"].steps[0]
    wait_for(lambda: airflow.task(run_id, "rollout", first)["state"] == "running", "its task")
    airflow.kill()
    with pytest.raises(EngineUnavailableError):
        airflow.runner.status(run_id)
    airflow.start()
    assert airflow.runner.status(run_id).state == "running"
    record = airflow.ended(run_id)
    assert (record.state, record.error) == ("succeeded", "")
    assert [step.name for step in record.steps] == list(SHAPES["rollout"].steps)
    assert airflow.runner.submit("rollout", {}, run_id) == run_id  # it is not done again
    assert airflow.runner.status(run_id).state == "succeeded"
