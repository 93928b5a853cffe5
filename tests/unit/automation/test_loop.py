"""From drift to a training, from a challenger to a champion: each once, whatever is killed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from movie_mlops.automation.loop import Loop, Told
from movie_mlops.automation.loop_store import LoopStore, Retraining, open_loop_store
from movie_mlops.automation.policies import Policy, decide_retraining
from movie_mlops.automation.rollout import Rollout, Stages
from movie_mlops.automation.staging import Evidence, Staging
from movie_mlops.domain.errors import EngineUnavailableError, PipelineError
from movie_mlops.domain.versions import MOVIE_RECOMMENDER, Alias
from movie_mlops.events import EventLog, open_event_log
from movie_mlops.events.schemas import (
    DRIFT_ALERTS,
    MODEL_LIFECYCLE,
    SYSTEM_HEALTH,
    LoopTransition,
    ModelDriftEvent,
    ScalingAlert,
    SystemHealthEvent,
    decode,
    encode,
)
from movie_mlops.models.bundle import save_bundle
from movie_mlops.models.manifest import Entry, TrialStage, point, read_manifest
from movie_mlops.orchestration.base import PipelineRun

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
POLICY = Policy(6 * HOUR, attempts=2, overload_percent=80, scaling_cooldown=HOUR)
STAGES = Stages(
    "staged",
    TrialStage("shadow", 0.2),
    TrialStage("canary", 0.1),
    shadow_lists=10,
    shadow_longest=HOUR,
    canary_longest=2 * HOUR,
)


def drift(score: float = 0.9, threshold: float = 0.5, at: datetime = NOW) -> ModelDriftEvent:
    return ModelDriftEvent(MOVIE_RECOMMENDER, "1", score, threshold, at)


def trained(hours_ago: float, state: str = "succeeded", now: datetime = NOW) -> Retraining:
    at = now - hours_ago * HOUR
    return Retraining(f"c{hours_ago}", MOVIE_RECOMMENDER, 0.9, at, "run", state)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("event", "past", "stopped", "action", "reason"),
    [
        (drift(), [], None, "retrain", "above"),
        (drift(0.5), [], None, "ignore", "not above"),
        (drift(), [trained(1)], None, "ignore", "last training"),
        (drift(), [trained(7, "running")], None, "ignore", "under way"),
        (drift(), [trained(7)], None, "retrain", "above"),
        (drift(at=NOW - 8 * HOUR), [trained(7)], None, "ignore", "before|began after"),
        (drift(), [trained(7), trained(14)], None, "page", "still there after 2"),
        (drift(), [trained(7), trained(50)], None, "retrain", "above"),
        (drift(), [trained(7, "failed"), trained(14, "failed")], None, "page", "look at the data"),
        (drift(), [], "no reason", "ignore", "stopped: no reason"),
    ],
)
def test_what_drift_leads_to(
    event: ModelDriftEvent,
    past: list[Retraining],
    stopped: str | None,
    action: str,
    reason: str,
) -> None:
    decision = decide_retraining(event, past, stopped, POLICY, NOW)
    assert decision.action == action
    assert any(text in decision.reason for text in reason.split("|"))


@given(st.lists(st.floats(0, 72), max_size=60))
def test_a_storm_of_alarms_trains_at_most_once_per_cooldown(hours: list[float]) -> None:
    """Fault 63."""
    past: list[Retraining] = []
    for each in sorted(hours):
        now = NOW + each * HOUR
        if decide_retraining(drift(at=now), past, None, POLICY, now).action == "retrain":
            past.insert(0, trained(0, now=now))
    starts = [each.at for each in reversed(past)]
    gaps = [after - before for before, after in pairwise(starts)]
    assert all(gap >= POLICY.cooldown for gap in gaps)
    assert bool(past) == bool(hours)


@dataclass
class Runner:
    """Records what is submitted; `dies` stops the process before or after the start."""

    runs: dict[str, PipelineRun] = field(default_factory=dict)
    dies: str = ""

    def submit(self, pipeline: str, parameters: dict[str, Any], run_id: str | None = None) -> str:
        assert run_id is not None
        if self.dies == "before":
            raise KeyboardInterrupt
        self.runs.setdefault(run_id, PipelineRun(run_id, pipeline, "running", "", 0))
        if self.dies == "after":
            raise KeyboardInterrupt
        return run_id

    def status(self, run_id: str) -> PipelineRun:
        if run_id not in self.runs:
            raise PipelineError("no such run")
        return self.runs[run_id]


@dataclass
class Aliases:
    """The registry's aliases; the registry itself has its own suite."""

    now: dict[str, str] = field(default_factory=dict)

    def set_alias(self, model: str, alias: Alias, version: str) -> None:
        self.now[alias] = version

    def remove_alias(self, model: str, alias: Alias) -> None:
        self.now.pop(alias, None)


@dataclass
class Report:
    verdict: str
    sentence: str = "as measured"


@dataclass
class Home:
    """A loop on real files."""

    path: Path
    log: EventLog
    runner: Runner = field(default_factory=Runner)
    shadow_lists: int = 0
    verdict: str = "running"

    def __post_init__(self) -> None:
        self.store = open_loop_store(self.path)
        self.aliases = Aliases()
        self.told = Told(self.store, lambda: self.log)
        registry: Any = self.aliases
        self.rollout = Rollout(
            self.path / "serving", registry, self.store, STAGES, lambda *_: None, self.told
        )
        canary: Callable[[str], Any] = lambda _: Report(self.verdict)  # noqa: E731
        evidence = Evidence(lambda _: self.shadow_lists, canary)
        self.staging = Staging(self.rollout, evidence)
        runner: Any = self.runner
        self.figures: dict[str, Any] = {}
        self.loop = Loop(self.log, self.store, runner, self.staging, POLICY, self.figures.update)

    def add(self, version: str, alias: Alias, *, passed: bool = True) -> None:
        folder = self.path / "serving" / MOVIE_RECOMMENDER / version
        gate = {"passed": passed, "reason": "clearly better" if passed else "not better"}
        sha = save_bundle(folder, {}, {"snapshot": "s", "algorithm": "a", "gate": gate})
        entry = Entry(version, f"{MOVIE_RECOMMENDER}/{version}", sha, "s", "a")
        point(self.path / "serving", MOVIE_RECOMMENDER, alias, entry)

    def roll_out(self, cause: str = "") -> str:
        step = self.rollout.pipeline().steps["roll_out_recommender"]
        return str(step({"cause": cause}, lambda *_: None)["note"])

    def serving(self) -> tuple[str, str, str]:
        served = read_manifest(self.path / "serving")[MOVIE_RECOMMENDER]
        stage = served.trial.stage if served.trial else ""
        challenger = served.challenger.version if served.challenger else ""
        assert served.champion is not None
        return served.champion.version, challenger, stage

    def moves(self) -> list[tuple[str, str]]:
        return [(each.event.before, each.event.after) for each in self.store.history()][::-1]

    def told_moves(self) -> list[tuple[str, str]]:
        events = [decode(each) for each in self.log.poll("reader", (MODEL_LIFECYCLE,), 100)]
        return [(each.before, each.after) for each in events if isinstance(each, LoopTransition)]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    log = open_event_log("sqlite:events.db", tmp_path, 10_000_000)
    yield Home(tmp_path, log)
    log.close()


def staged(home: Home, cause: str = "") -> Home:
    home.add("1", Alias.CHAMPION)
    home.add("2", Alias.CHALLENGER)
    assert "works in the shadow" in home.roll_out(cause)
    return home


def test_a_challenger_goes_from_shadow_to_canary_to_champion(home: Home) -> None:
    staged(home, "drift-7")
    assert home.serving() == ("1", "2", "shadow")
    home.staging.advance(datetime.now(UTC))
    assert home.serving() == ("1", "2", "shadow")
    home.shadow_lists = 10
    home.staging.advance(datetime.now(UTC))
    assert home.serving() == ("1", "2", "canary")
    home.staging.advance(datetime.now(UTC))
    assert home.serving() == ("1", "2", "canary")
    home.verdict = "better"
    home.staging.advance(datetime.now(UTC))
    assert home.serving() == ("2", "", "")
    assert home.aliases.now == {"champion": "2"}
    moves = [("challenger", "shadow"), ("shadow", "canary"), ("canary", "champion")]
    assert home.moves() == moves
    assert home.told_moves() == moves
    assert {each.event.cause for each in home.store.history()} == {"drift-7"}
    assert home.store.rollouts() == []


@pytest.mark.parametrize("verdict", ["worse", "invalid"])
def test_a_worse_canary_is_rolled_back(home: Home, verdict: str) -> None:
    staged(home)
    home.shadow_lists, home.verdict = 10, verdict
    home.staging.advance(datetime.now(UTC))
    home.staging.advance(datetime.now(UTC))
    assert home.serving() == ("1", "", "")
    assert home.moves()[-1] == ("canary", "archived")
    assert home.store.history()[0].event.reason == "as measured"


def test_stages_have_a_time_limit(home: Home) -> None:
    staged(home)
    home.shadow_lists = 9
    home.staging.advance(datetime.now(UTC) + 1.1 * HOUR)
    assert home.serving() == ("1", "", "")
    assert "only 9 of 10" in home.store.history()[0].event.reason
    home.add("3", Alias.CHALLENGER)
    home.roll_out()
    home.shadow_lists = 10
    home.staging.advance(datetime.now(UTC))
    home.staging.advance(datetime.now(UTC) + 2.1 * HOUR)
    assert home.serving() == ("1", "", "")
    assert "no verdict in 2 h" in home.store.history()[0].event.reason


def test_a_refused_challenger_is_noted_once(home: Home) -> None:
    home.add("1", Alias.CHAMPION)
    home.add("2", Alias.CHALLENGER, passed=False)
    for _ in range(2):
        assert "refused: not better" in home.roll_out()
    assert home.moves() == [("challenger", "refused")]


def test_a_newer_challenger_and_another_champion_end_a_roll_out(home: Home) -> None:
    staged(home)
    home.add("3", Alias.CHALLENGER)
    home.staging.advance(datetime.now(UTC))
    assert home.moves()[-1] == ("shadow", "superseded")
    home.roll_out()
    home.add("4", Alias.CHAMPION)
    home.staging.advance(datetime.now(UTC))
    assert home.serving() == ("4", "", "")
    assert home.moves()[-1] == ("shadow", "archived")


class Killed(BaseException):
    pass


def killing(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """End the process after so many writes of manifest, registry and loop store."""
    left = after

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **more: Any) -> Any:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return call(*args, **more)

        return counting

    from movie_mlops.automation import rollout

    for name in ("let_in", "withdraw", "point"):
        monkeypatch.setattr(rollout, name, counted(getattr(rollout, name)))
    for name in ("note", "put_rollout", "drop_rollout", "mark_published"):
        monkeypatch.setattr(LoopStore, name, counted(getattr(LoopStore, name)))
    for name in ("set_alias", "remove_alias"):
        monkeypatch.setattr(Aliases, name, counted(getattr(Aliases, name)))


@pytest.mark.parametrize("after", range(12))
@pytest.mark.parametrize("verdict", ["better", "worse"])
def test_killed_between_any_two_steps_the_roll_out_ends_the_same(
    home: Home, verdict: str, after: int
) -> None:
    """Fault 77."""
    home.add("1", Alias.CHAMPION)
    home.add("2", Alias.CHALLENGER)
    home.shadow_lists, home.verdict = 10, verdict
    with pytest.MonkeyPatch.context() as patch:
        killing(patch, after)
        try:
            home.roll_out()
            for _ in range(3):
                home.staging.advance(datetime.now(UTC))
        except Killed:
            pass
    again = Home(home.path, home.log, shadow_lists=10, verdict=verdict)
    again.aliases.now = home.aliases.now
    again.roll_out()
    for _ in range(3):
        again.staging.advance(datetime.now(UTC))
    again.told()
    end = ("2", "", "") if verdict == "better" else ("1", "", "")
    last = "champion" if verdict == "better" else "archived"
    assert again.serving() == end
    assert again.store.rollouts() == []
    moves = again.moves()
    assert [after for _, after in moves] == ["shadow", "canary", last]
    assert again.told_moves() == moves


def publish_drift(home: Home, event_id: str, event: ModelDriftEvent) -> None:
    home.log.publish(DRIFT_ALERTS, [encode(event, event_id)])


def test_drift_trains_once_and_the_trail_says_why(home: Home) -> None:
    now = datetime.now(UTC)
    for _ in range(3):  # fault 65: the same trigger again
        publish_drift(home, "d1", drift(at=now))
    publish_drift(home, "d2", drift(at=now))
    publish_drift(home, "d3", drift(0.2, at=now))
    home.loop.run_once()
    [run] = home.runner.runs.values()
    assert run.pipeline == "training"
    assert home.moves() == [("drift", "training"), ("drift", "ignored"), ("drift", "ignored")]
    run.state = "succeeded"
    home.loop.run_once()
    assert home.moves()[-1] == ("training", "trained")
    assert home.told_moves() == home.moves()
    assert [each.state for each in home.store.retrainings()] == ["succeeded"]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill_around_the_start_of_a_training_neither_loses_nor_doubles_it(
    home: Home, moment: str
) -> None:
    publish_drift(home, "d1", drift(at=datetime.now(UTC)))
    home.runner.dies = moment
    with pytest.raises(KeyboardInterrupt):
        home.loop.run_once()
    runner = Runner(dict(home.runner.runs))
    again = Home(home.path, open_event_log("sqlite:events.db", home.path, 10_000_000), runner)
    again.loop.run_once()
    again.loop.run_once()
    again.log.close()
    assert len(runner.runs) == 1
    assert again.moves() == [("drift", "training")]


def test_drift_that_outlives_its_trainings_stops_and_pages(home: Home) -> None:
    """Fault 64."""
    now = datetime.now(UTC)
    for hours in (7, 14):
        home.store.add_retraining(replace(trained(hours, now=now), state="succeeded"))
    publish_drift(home, "d1", drift(at=now))
    home.loop.run_once()
    assert home.moves() == [("drift", "paged")]
    assert "after 2 trainings" in home.store.stopped()[MOVIE_RECOMMENDER]
    assert home.figures["loop_stopped"] == {MOVIE_RECOMMENDER: 1.0}
    publish_drift(home, "d2", drift(at=now))
    home.loop.run_once()
    assert home.moves()[-1] == ("drift", "ignored")
    assert home.runner.runs == {}
    assert home.store.resume(MOVIE_RECOMMENDER)
    assert home.store.stopped() == {}


def test_a_failed_training_is_noted(home: Home) -> None:
    publish_drift(home, "d1", drift(at=datetime.now(UTC)))
    home.loop.run_once()
    [run] = home.runner.runs.values()
    run.state, run.error = "failed", "train_movie_model: no rows"
    home.loop.run_once()
    assert home.moves()[-1] == ("training", "failed")
    assert home.store.history()[0].event.reason == "train_movie_model: no rows"


def test_an_overloaded_service_asks_for_scaling_once_per_cooldown(home: Home) -> None:
    for usage in (95.0, 96.0, 20.0):
        event = SystemHealthEvent("api", "overloaded", usage, 10.0, 0.0, datetime.now(UTC))
        home.log.publish(SYSTEM_HEALTH, [encode(event)])
    home.loop.run_once()
    found = [decode(each) for each in home.log.poll("reader", (SYSTEM_HEALTH,), 10)]
    alerts = [each for each in found if isinstance(each, ScalingAlert)]
    assert [(each.service_name, each.reason) for each in alerts] == [
        ("api", "CPU 95 %, memory 10 %")
    ]


def test_what_the_log_refuses_now_is_told_later(home: Home) -> None:
    def closed() -> EventLog:
        raise EngineUnavailableError("the log is down")

    event = LoopTransition(MOVIE_RECOMMENDER, "loop", "a", "b", "r", "operator", "", NOW)
    assert home.store.note(event, "one")
    assert not home.store.note(event, "one")
    Told(home.store, closed)()
    assert len(home.store.unpublished()) == 1
    home.told()
    home.told()
    assert home.told_moves() == [("a", "b")]
