"""`movie-mlops demo`: the whole story with real processes, on SQLite and on Kafka."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.kafka_broker import find_kafka
from tests.stacks import planned, required

from movie_mlops.automation.loop_store import open_loop_store
from movie_mlops.bootstrap import Services, build_services
from movie_mlops.cli.demo_house import DemoHouse, demo_settings
from movie_mlops.cli.demo_people import Visit
from movie_mlops.cli.demo_plots import bar, drift_lines, share_lines
from movie_mlops.cli.demo_story import Story
from movie_mlops.data.lake import Lake
from movie_mlops.domain.versions import MOVIE_RECOMMENDER
from movie_mlops.events import EventLog
from movie_mlops.events.base import Place, Standing
from movie_mlops.events.schemas import (
    DRIFT_ALERTS,
    MODEL_LIFECYCLE,
    TOPICS,
    USER_EVENTS,
    LoopTransition,
    ModelDriftEvent,
    ModelPromoted,
    decode,
)
from movie_mlops.models.manifest import read_manifest
from movie_mlops.settings import PREFIX
from movie_mlops.stack import Stack
from movie_mlops.state import find_state

STORY = [
    ("version 1", "challenger", "champion"),
    ("retraining", "drift", "training"),
    ("version 2", "challenger", "shadow"),
    ("version 2", "shadow", "canary"),
    ("version 2", "canary", "champion"),
    ("version 3", "challenger", "refused"),
    ("version 4", "challenger", "shadow"),
    ("version 4", "shadow", "canary"),
    ("version 4", "canary", "archived"),
]


TRAINED = ("retraining", "training", "trained")
"""Noticed before or after the next step."""


@pytest.fixture
def events_url(request: pytest.FixtureRequest) -> str:
    if request.param == "sqlite":
        return "sqlite:var/events.db"
    return f"kafka://{request.getfixturevalue('kafka').servers}/demo."


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("events_url", ["sqlite", "kafka"], indirect=True)
def test_a_click_ends_in_a_better_model_and_bad_ones_stay_out(
    tmp_path: Path, events_url: str
) -> None:
    home = tmp_path / "home"
    command = [sys.executable, "-m", "movie_mlops", "demo", "--home", str(home)]
    kept = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
    ran = subprocess.run(
        [*command, "--events-url", events_url],
        env=kept, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=390,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr
    services = build_services(demo_settings(home, events_url=events_url))
    noted = [each.event for each in services.loop_store.history()][::-1]
    moves = [(each.subject, each.before, each.after) for each in noted]
    assert [move for move in moves if move != TRAINED] == STORY
    assert moves.count(TRAINED) == 1
    assert "better" in noted[moves.index(("version 2", "canary", "champion"))].reason
    assert "worse" in noted[moves.index(("version 4", "canary", "archived"))].reason
    served = read_manifest(services.serving)[MOVIE_RECOMMENDER]
    assert served.champion is not None
    assert (served.champion.version, served.challenger, served.trial) == ("2", None, None)
    assert "champion" in services.registry.get_model_metadata(MOVIE_RECOMMENDER, "2").aliases
    check_events(services.log, moves)
    check_lake(services)
    services.close()


@pytest.mark.engine("kafka, redis, feast, mlflow, airflow, prometheus")
@pytest.mark.timeout(900)
def test_the_same_story_with_every_hop_on_a_real_engine() -> None:
    with planned() as stack:
        required(stack, "kafka", "redis", "feast", "mlflow", "airflow", "prometheus")
        home, kafka_home = stack.home / "demo", find_kafka()[0]
        command = [sys.executable, "-m", "movie_mlops", "demo", "--engines", "real"]
        kept = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
        ran = subprocess.run(
            [*command, "--home", str(home), "--kafka-home", str(kafka_home)],
            env=kept, cwd=stack.home, capture_output=True, text=True, check=False, timeout=890,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert "Traceback" not in ran.stdout + ran.stderr
        assert "interaction_count" in ran.stdout  # a viewer's features, by Redis and Feast
        noted = remembered(Stack(home))
        mine = [each for each in noted if each.model_name == MOVIE_RECOMMENDER]
        moves = [(each.subject, each.before, each.after) for each in mine]
        assert [move for move in moves if move != TRAINED] == STORY
        served = read_manifest(home / "var" / "serving")[MOVIE_RECOMMENDER]
        assert served.champion is not None
        assert (served.champion.version, served.challenger, served.trial) == ("2", None, None)
        rows = Lake(home / "data").events(USER_EVENTS)
        assert len(rows) == rows["event_id"].n_unique() > 4_000
        for folder in (home / "var" / "stack").iterdir():  # it has stopped what it started
            assert not (folder / "record.json").exists()


def remembered(stack: Stack) -> list[LoopTransition]:
    """What the loop noted in PostgreSQL, which is started once more for that."""
    stack.up(["postgresql"])
    try:
        keys = stack.environment()
        password = keys["MOVIE_MLOPS_STATE_PASSWORD"]
        state = find_state(keys["MOVIE_MLOPS_STATE_URL"], stack.home, password)
        return [each.event for each in open_loop_store(state).history()][::-1]
    finally:
        stack.down()


def check_lake(services: Services) -> None:
    """What the worker had not taken when it was stopped is there for its next start."""
    writer, ends = services.lake_writer(), services.log.end_positions([USER_EVENTS])
    deadline = time.monotonic() + 60
    while sum(services.lake.event_positions(USER_EVENTS).values()) < sum(ends.values()):
        assert time.monotonic() < deadline
        writer.run_once()
    rows = services.lake.events(USER_EVENTS)
    assert len(rows) == rows["event_id"].n_unique() == sum(ends.values()) > 4_000


def check_events(log: EventLog, moves: list[tuple[str, str, str]]) -> None:
    """Drift was said once, every transition and every champion is in the log."""
    [drift] = events(log, DRIFT_ALERTS)
    assert isinstance(drift, ModelDriftEvent)
    assert drift.drift_score > drift.threshold
    told = events(log, MODEL_LIFECYCLE)
    transitions = [each for each in told if isinstance(each, LoopTransition)]
    assert [(each.subject, each.before, each.after) for each in transitions] == moves
    causes = {each.cause for each in transitions if each.subject in ("version 2", "retraining")}
    assert len(causes) == 1
    promoted = [each.version for each in told if isinstance(each, ModelPromoted)]
    assert promoted == ["1", "2"]


def events(log: EventLog, topic: str) -> list[object]:
    """Each once: over Kafka two processes may tell the same transition, which readers see."""
    places = [Place(topic, number) for number in range(TOPICS[topic])]
    records = [record for place in places for record in log.read(place, 0, 1_000)]
    assert {record.standing for record in records} <= {Standing.FIRST, Standing.DUPLICATE}
    return [decode(record) for record in records if record.standing is Standing.FIRST]


@pytest.mark.timeout(120)
def test_the_first_chapters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = demo_settings(tmp_path, sample_films=120, sample_people=120)
    with DemoHouse(settings) as house:
        story = Story(house)
        story.begin()
        story.click()
    said = capsys.readouterr().out
    assert "left: newcomer; right: personal" in said
    assert "version 1 challenger → champion" in said.replace("v1 ", "version 1 ")


def test_a_home_with_data_is_not_told_over(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    ran = subprocess.run(
        [sys.executable, "-m", "movie_mlops", "demo", "--home", str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 3
    assert "not empty" in ran.stderr


def test_plots_are_as_long_as_what_they_show() -> None:
    assert (bar(0, 1), len(bar(0.5, 1, 10)), bar(2, 1, 4)) == ("", 5, "████")
    measures = [{"value": 0.4, "threshold": 0.1}, {"value": 0.0, "threshold": 0.1}]
    calm = [{"value": 0.05, "threshold": 0.1}]
    lines = drift_lines(
        [{"name": "era", "measures": calm}, {"name": "genre", "measures": measures}]
    )
    assert lines[0].startswith("genre")
    assert "[red]" in lines[0]
    assert "[red]" not in lines[1]
    assert "┊" in lines[1]
    visits = [Visit("1", True)] * 8 + [Visit("2", False)] * 4 + [Visit("10", True)] * 4
    shown = share_lines(visits, columns=4)
    assert [line.split()[0] for line in shown] == ["v1", "v2", "v10"]
    assert "100% of 8 lists" in shown[0]
    assert "0% of 4 lists" in shown[1]
