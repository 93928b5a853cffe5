"""The loop on a running API: triggers become events, a canary is shown, judged and promoted."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from tests.houses import furnish, interactions, movies, running, training

from movie_mlops.api.control import create_control_app
from movie_mlops.automation.loop import Told
from movie_mlops.automation.rollout import Rollout, Stages
from movie_mlops.automation.staging import Evidence, Staging
from movie_mlops.bootstrap import build_services, open_exposures
from movie_mlops.cli.main import cli
from movie_mlops.domain.versions import MOVIE_RECOMMENDER, Alias
from movie_mlops.events import open_event_log
from movie_mlops.events.schemas import (
    DRIFT_ALERTS,
    MODEL_LIFECYCLE,
    SYSTEM_HEALTH,
    LoopTransition,
    ModelDriftEvent,
    SystemHealthEvent,
    decode,
)
from movie_mlops.models.algorithms import create
from movie_mlops.models.bundle import save_bundle
from movie_mlops.models.manifest import Entry, TrialStage, point, read_manifest
from movie_mlops.models.serving.ab_report import report_on
from movie_mlops.models.serving.audience import canary_name
from movie_mlops.models.serving.experiment_store import ExperimentStore
from movie_mlops.settings import Settings, load_settings

KEY = {"X-API-Key": "secret-key"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = load_settings(tmp_path, admin_api_key="secret-key", writes_burst=10_000)
    furnish(made)
    return made


@pytest.fixture
def api(settings: Settings) -> Iterator[httpx.Client]:
    with running(settings) as url, httpx.Client(base_url=url, timeout=10) as client:
        yield client


def events(settings: Settings, topic: str) -> list[Any]:
    log = open_event_log(settings.events_url, settings.home, settings.event_log_max_bytes)
    found = [decode(record) for record in log.poll("reader", (topic,), 1_000)]
    log.close()
    return found


def test_triggers_need_the_admin_key(api: httpx.Client) -> None:
    for path in ("model-drift", "system-overload", "alertmanager"):
        refused = api.post(f"/api/v1/trigger/{path}", json={})
        assert refused.status_code == 401
        assert "X-API-Key" in refused.text


def test_a_trigger_is_an_event_once(api: httpx.Client, settings: Settings) -> None:
    body = {"model_name": MOVIE_RECOMMENDER, "drift_score": 0.85, "threshold": 0.7}
    first = api.post("/api/v1/trigger/model-drift", json={**body, "event_id": "d"}, headers=KEY)
    again = api.post("/api/v1/trigger/model-drift", json={**body, "event_id": "d"}, headers=KEY)
    other = {**body, "event_id": "d", "drift_score": 0.9}
    assert (first.status_code, first.json()["status"]) == (202, "accepted")
    assert again.json() == {**first.json(), "status": "duplicate"}
    assert api.post("/api/v1/trigger/model-drift", json=other, headers=KEY).status_code == 409
    load = {"service_name": "api", "cpu_usage": 93.5, "memory_usage": 71}
    assert api.post("/api/v1/trigger/system-overload", json=load, headers=KEY).status_code == 202
    [drift] = events(settings, DRIFT_ALERTS)
    assert isinstance(drift, ModelDriftEvent)
    assert (drift.drift_score, drift.threshold) == (0.85, 0.7)
    [health] = events(settings, SYSTEM_HEALTH)
    assert isinstance(health, SystemHealthEvent)
    assert (health.service_name, health.cpu_usage) == ("api", 93.5)


@pytest.mark.parametrize(
    "body",
    [
        {"model_name": "", "drift_score": 1, "threshold": 0},
        {"model_name": "m", "drift_score": "NaN", "threshold": 0},
        {"model_name": "m", "drift_score": 1e400, "threshold": 0},
        {"model_name": "m"},
    ],
)
def test_a_trigger_that_says_nothing_is_refused(api: httpx.Client, body: dict[str, Any]) -> None:
    text = json.dumps(body).encode()
    headers = {**KEY, "Content-Type": "application/json"}
    answer = api.post("/api/v1/trigger/model-drift", content=text, headers=headers)
    assert answer.status_code in (400, 422)


def alert(name: str, status: str = "firing", **labels: str) -> dict[str, Any]:
    return {
        "status": status,
        "labels": {"alertname": name, **labels},
        "annotations": {"drift_score": "0.9", "threshold": "0.5", "value": "91.5"},
        "startsAt": "2026-03-01T12:00:00.123Z",
        "fingerprint": "abc",
    }


def test_alertmanager_may_repeat_itself(api: httpx.Client, settings: Settings) -> None:
    body = {
        "version": "4",
        "status": "firing",
        "receiver": "loop",
        "groupLabels": {},
        "alerts": [
            alert("DataDriftDetected", model=MOVIE_RECOMMENDER),
            alert("HighMemoryUsage", job="worker"),
            alert("DailyReport"),
            alert("DataDriftDetected", "resolved"),
        ],
    }
    answers = [api.post("/api/v1/trigger/alertmanager", json=body, headers=KEY) for _ in range(3)]
    assert [each.status_code for each in answers] == [202] * 3
    assert [each["status"] for each in answers[0].json()["events"]] == ["accepted"] * 2
    assert [each["status"] for each in answers[2].json()["events"]] == ["duplicate"] * 2
    assert answers[0].json()["ignored"] == ["DailyReport", "DataDriftDetected"]
    [drift] = events(settings, DRIFT_ALERTS)
    assert (drift.model_name, drift.drift_score, drift.threshold) == (MOVIE_RECOMMENDER, 0.9, 0.5)
    [load] = events(settings, SYSTEM_HEALTH)
    assert (load.service_name, load.cpu_usage, load.memory_usage) == ("worker", 0.0, 91.5)


class Aliases:
    """The registry has its own suite."""

    def set_alias(self, *_: str) -> None:
        pass

    remove_alias = set_alias


def challenge(settings: Settings, version: str, algorithm: str) -> None:
    """Another model becomes challenger, its gate passed."""
    serving = settings.path(settings.serving_url)
    arrays, card = create(algorithm).fit(training(interactions(), movies())).artifact()
    path = f"{MOVIE_RECOMMENDER}/{version}"
    card |= {"snapshot": "s", "gate": {"passed": True, "reason": "clearly better"}}
    sha256 = save_bundle(serving / path, arrays, card)
    point(
        serving, MOVIE_RECOMMENDER, Alias.CHALLENGER, Entry(version, path, sha256, "s", algorithm)
    )


def staging(settings: Settings) -> Staging:
    services = build_services(settings)
    tests = ExperimentStore(open_exposures(settings, "loop"))
    stages = Stages(
        "staged",
        TrialStage("shadow", 1.0),
        TrialStage("canary", 0.5, attribution_minutes=0.01, alpha=0.05),
        shadow_lists=5,
        shadow_longest=timedelta(hours=1),
        canary_longest=timedelta(hours=1),
    )
    registry: Any = Aliases()
    log = open_event_log(settings.events_url, settings.home, settings.event_log_max_bytes)
    told = Told(services.loop_store, lambda: log)
    serving = settings.path(settings.serving_url)
    rollout = Rollout(serving, registry, services.loop_store, stages, lambda *_: None, told)
    evidence = Evidence(
        tests.shadow_lists, lambda version: report_on(tests, canary_name(version), active=True)
    )
    return Staging(rollout, evidence)


def advance_until(staged: Staging, api: httpx.Client, wanted: str) -> None:
    """Show lists and look, until the stage or champion is there."""
    give_up = monotonic() + 20
    while monotonic() < give_up:
        served = read_manifest(staged.rollout.serving)[MOVIE_RECOMMENDER]
        stage = served.trial.stage if served.trial else "none"
        if stage == wanted:
            return
        api.get("/api/v1/recommendations", params={"user_id": "1"})
        staged.advance(datetime.now(UTC))
        sleep(0.05)
    pytest.fail(f"never came to {wanted}; {staged.rollout.store.history()[0]}")


def wait_for_experiment(api: httpx.Client, name: str) -> None:
    give_up = monotonic() + 10
    while monotonic() < give_up:
        items = api.get("/api/v1/experiments").json()["items"]
        if any(each["name"] == name and each["active"] for each in items):
            return
        sleep(0.02)
    pytest.fail(f"{name} did not begin")


@pytest.mark.parametrize(("liked", "champion"), [("2", "2"), ("1", "1")])
def test_viewers_decide_whether_a_challenger_becomes_champion(
    api: httpx.Client, settings: Settings, liked: str, champion: str
) -> None:
    """People who always like what version `liked` shows, and never the other's."""
    challenge(settings, "2", "popularity")
    staged = staging(settings)
    note = staged.rollout.pipeline().steps["roll_out_recommender"]({}, lambda *_: None)["note"]
    assert "shadow" in note
    advance_until(staged, api, "canary")
    wait_for_experiment(api, canary_name("2"))
    shown: dict[str, int] = {}
    for viewer in range(330):
        user = f"viewer-{viewer}"
        listed = api.get("/api/v1/recommendations", params={"user_id": user}).json()
        version = listed["model_version"]
        shown[version] = shown.get(version, 0) + 1
        if version == liked:
            body = {
                "user_id": user,
                "movie_id": listed["items"][0]["movie_id"],
                "interaction_type": "like",
                "request_id": listed["request_id"],
            }
            assert api.post("/api/v1/events/user-interaction", json=body).status_code == 202
    assert min(shown.values()) >= 100
    advance_until(staged, api, "none")
    served = read_manifest(staged.rollout.serving)[MOVIE_RECOMMENDER]
    assert served.champion is not None
    assert served.champion.version == champion
    assert served.challenger is None
    moves = [
        (each.before, each.after)
        for each in events(settings, MODEL_LIFECYCLE)
        if isinstance(each, LoopTransition)
    ]
    last = ("canary", "champion" if champion == "2" else "archived")
    assert moves == [("challenger", "shadow"), ("shadow", "canary"), last]
    give_up = monotonic() + 5
    while versions_shown(api) != {champion} and monotonic() < give_up:
        sleep(0.05)
    assert versions_shown(api) == {champion}


def versions_shown(api: httpx.Client) -> set[str]:
    answers = [
        api.get("/api/v1/recommendations", params={"user_id": f"viewer-{viewer}"})
        for viewer in range(30)
    ]
    return {answer.json()["model_version"] for answer in answers}


def test_the_history_is_read_over_http_and_by_command(settings: Settings) -> None:
    services = build_services(settings)
    for number in range(3):
        event = LoopTransition(
            MOVIE_RECOMMENDER, f"version {number}", "canary", "champion", "better", "rollout",
            f"cause-{number}", datetime(2026, 3, 1, number, tzinfo=UTC),
        )  # fmt: skip
        services.loop_store.note(event)
    services.loop_store.stop(MOVIE_RECOMMENDER, "drift is still there", datetime.now(UTC))
    transport = httpx.ASGITransport(create_control_app(services))

    async def ask(method: str, path: str) -> Any:
        async with httpx.AsyncClient(transport=transport, base_url="http://worker") as client:
            return (await client.request(method, path)).json()

    import asyncio

    found = asyncio.run(ask("GET", "/api/v1/loop/history?limit=2"))
    assert [each["cause"] for each in found["items"]] == ["cause-2", "cause-1"]
    assert found["stopped"] == {MOVIE_RECOMMENDER: "drift is still there"}
    one = asyncio.run(ask("GET", "/api/v1/loop/history?cause=cause-0"))
    assert [each["subject"] for each in one["items"]] == ["version 0"]
    home = ["--home", str(settings.home)]
    said = CliRunner().invoke(cli, ["loop", "history", *home, "--json"])
    assert [each["cause"] for each in json.loads(said.output)] == ["cause-0", "cause-1", "cause-2"]
    table = CliRunner().invoke(cli, ["loop", "history", *home], env={"COLUMNS": "200"})
    assert "stopped: drift is still there" in table.output
    again = CliRunner().invoke(cli, ["loop", "resume", MOVIE_RECOMMENDER, *home])
    assert again.output == f"{MOVIE_RECOMMENDER}: running again\n"
    assert build_services(settings).loop_store.stopped() == {}
    services.close()
