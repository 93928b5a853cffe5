"""The guide's manager and its verdicts: faults 69 and 70, a changed test, a broken ratio."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import movie_mlops
from movie_mlops.domain.errors import InvalidIdError
from movie_mlops.models.serving.ab_report import ExperimentReport
from movie_mlops.models.serving.ab_testing import ABTestManager
from movie_mlops.models.serving.exposure_engines import open_exposure_store
from movie_mlops.settings import PREFIX

MODELS = ["model_a", "model_b"]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ABTestManager]:
    made = ABTestManager(open_exposure_store(tmp_path, "one"), attribution_minutes=0.001)
    yield made
    made.close()


def read(manager: ABTestManager) -> ExperimentReport:
    found = manager.verdict()
    assert found is not None
    return found


def close_windows(manager: ABTestManager, minutes: float = 60.0) -> None:
    """As if all of this had been an hour ago, one user every 10 ms."""
    manager._log.flush()
    manager._store._writer.execute(
        "UPDATE subjects SET first_ms = first_ms - ?", (round(60_000 * minutes),)
    )


def test_the_snippet_of_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(PREFIX + "HOME", raising=False)
    manager = movie_mlops.ABTestManager()
    chosen = manager.route_request(1, MODELS)
    assert chosen in MODELS
    assert chosen == manager.route_request("user_001", MODELS)
    response = {"recommended_content_id": [3, 1]}
    request_id = manager.log_prediction(chosen, {"user_id": 1}, response)
    assert manager.log_outcome(1, request_id)
    assert not manager.log_outcome(1, request_id)  # a user counts once
    assert not manager.log_outcome(2, request_id)
    found = manager.verdict()
    assert found is not None
    assert found.verdict == "no data"
    assert sum(arm.exposures for arm in found.arms) == 1
    manager.close()
    assert (tmp_path / "var" / "exposures.db").exists()


def test_routing_is_sticky_weighted_and_of_any_number(manager: ABTestManager) -> None:
    assert manager.route_request(5, ["only"]) == "only"
    assert manager.verdict() is None
    weighted = [manager.route_request(user, {"a": 3.0, "b": 1.0}) for user in range(4_000)]
    assert weighted.count("b") / 4_000 == pytest.approx(0.25, abs=0.03)
    assert weighted == [manager.route_request(user, {"a": 3.0, "b": 1.0}) for user in range(4_000)]
    for models in ([], ["a", ""], {"a": 1.0, "b": 0.0}):
        with pytest.raises(ValueError, match="arm"):
            manager.route_request(1, models)  # type: ignore[arg-type]
    with pytest.raises(InvalidIdError):
        manager.route_request("", MODELS)


def test_the_better_model_wins_and_nobody_else(manager: ABTestManager) -> None:
    rng = np.random.default_rng(5)
    for user in range(3_000):
        model = manager.route_request(user, MODELS)
        request_id = f"r{user}"
        manager.log_prediction(model, {"user_id": user, "request_id": request_id}, {"items": [1]})
    manager._log.flush()
    experiment = manager._experiment
    assert experiment is not None
    rates = {"model_a": 0.1, "model_b": 0.2}
    happy = [u for u in range(3_000) if rng.random() < rates[manager.route_request(u, MODELS)]]
    assert read(manager).verdict in ("no data", "running")
    manager._tests.convert("ab-test", [experiment.subject(str(user)) for user in happy], 0)
    close_windows(manager)
    found = read(manager)
    assert found.verdict == "better"
    assert found.difference is not None
    assert found.difference.low > 0
    assert found.difference.arm == "model_b"
    assert found.p_value is not None
    assert found.p_value <= found.alpha
    assert "model_b is better than model_a" in found.sentence
    assert found.sample_ratio.ok
    for arm in found.arms:
        assert arm.users == arm.exposed_users > 1_300
        assert arm.rate == pytest.approx(rates[arm.name], abs=0.04)


def test_a_user_counts_when_the_window_is_over(manager: ABTestManager) -> None:
    """Fault 70: who was shown the arm just now is no failure yet, and no late outcome counts."""
    slow = manager
    slow._minutes = 60.0
    for user in range(40):
        model = slow.route_request(user, MODELS)
        slow.log_prediction(model, {"user_id": user, "request_id": f"r{user}"}, {})
    assert slow.log_outcome(0, "r0")
    found = read(slow)
    assert (found.verdict, sum(arm.users for arm in found.arms)) == ("no data", 0)
    assert sum(arm.exposed_users for arm in found.arms) == 40
    close_windows(slow, 61.0)
    assert not slow.log_outcome(1, "r1")  # too late
    found = read(slow)
    assert found.verdict == "running"
    assert sum(arm.users for arm in found.arms) == 40
    assert sum(arm.conversions for arm in found.arms) == 1


def test_users_of_both_arms_are_left_out_and_counted(manager: ABTestManager) -> None:
    """Fault 69."""
    for user in range(10):
        manager.route_request(user, MODELS)
        for model in MODELS if user < 3 else ["model_a"]:
            manager.log_prediction(model, {"user_id": user}, {})
    manager.log_prediction("another", {"user_id": 1}, {})
    close_windows(manager)
    found = read(manager)
    assert found.excluded_users == 3
    assert sum(arm.users for arm in found.arms) == 7


def test_a_test_that_changed_while_it_ran_is_worth_nothing(manager: ABTestManager) -> None:
    manager.route_request(1, MODELS)
    assert read(manager).verdict == "no data"
    manager.route_request(1, {"model_a": 9.0, "model_b": 1.0})
    found = read(manager)
    assert found.verdict == "invalid"
    assert "new name" in found.sentence
    assert [arm.share for arm in found.arms] == [0.5, 0.5]


def test_a_broken_ratio_is_worth_nothing(manager: ABTestManager) -> None:
    """Fault 67: one arm loses half of its users on the way."""
    for user in range(2_000):
        model = manager.route_request(user, MODELS)
        if model == "model_a" or user % 2:
            manager.log_prediction(model, {"user_id": user}, {})
    found = read(manager)
    assert not found.sample_ratio.ok
    assert found.verdict == "invalid"
    assert time.time() - found.started.timestamp() < 600
