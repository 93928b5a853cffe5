"""A champion that is clearly worse in use than the one before it is taken back, once."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from tests.unit.automation.test_loop import Home

from movie_mlops.automation.guard import Guard
from movie_mlops.automation.rollout import ACTOR, BY_HAND
from movie_mlops.domain.versions import MOVIE_RECOMMENDER, Alias
from movie_mlops.events import open_event_log
from movie_mlops.models.serving.online_quality import Rate, VersionQuality, wilson

DAY = timedelta(days=1)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    log = open_event_log("sqlite:events.db", tmp_path, 10_000_000)
    made = Home(tmp_path, log)
    made.add("1", Alias.CHAMPION)
    yield made
    log.close()


def quality(version: str, viewers: int, share: float) -> VersionQuality:
    low, high = wilson(share, viewers)
    rate = Rate(share, low, high, round(share * viewers), float(viewers))
    return VersionQuality(
        version, viewers, viewers, 0, 0, round(share * viewers), rate, rate, rate, 0,
        None, None, None, 0,
    )  # fmt: skip


def promoted(home: Home, actor: str = ACTOR) -> Guard:
    home.add("2", Alias.CHALLENGER)
    home.rollout.promote(MOVIE_RECOMMENDER, "2", "passed", actor)
    return Guard(home.rollout, DAY)


def test_a_clearly_worse_champion_goes_back(home: Home) -> None:
    guard = promoted(home)
    now = datetime.now(UTC)
    assert guard.look([quality("2", 150, 0.1), quality("1", 5_000, 0.3)], now) is None  # too few
    reason = guard.look([quality("2", 250, 0.1), quality("1", 5_000, 0.3)], now)
    assert reason is not None
    assert reason.startswith("10.0 % of its lists")
    assert home.serving()[0] == "1"
    last = home.store.history()[0].event
    assert (last.before, last.after, last.actor) == ("champion", "rolled back", ACTOR)
    assert guard.look([quality("2", 250, 0.1), quality("1", 5_000, 0.3)], now) is None


@pytest.mark.parametrize("share", [0.29, 0.3, 0.5])
def test_as_good_or_better_stays(home: Home, share: float) -> None:
    guard = promoted(home)
    assert (
        guard.look([quality("2", 1_000, share), quality("1", 5_000, 0.3)], datetime.now(UTC))
        is None
    )
    assert home.serving()[0] == "2"


def test_a_persons_word_and_an_old_promotion_stand(home: Home) -> None:
    worse = [quality("2", 1_000, 0.05), quality("1", 5_000, 0.3)]
    guard = promoted(home, BY_HAND)
    assert guard.look(worse, datetime.now(UTC)) is None
    home.rollout.roll_back(MOVIE_RECOMMENDER)
    home.rollout.promote(MOVIE_RECOMMENDER, "2", "passed", ACTOR)
    assert guard.look(worse, datetime.now(UTC) + 1.1 * DAY) is None
    assert guard.look(worse, datetime.now(UTC)) is not None


def test_of_equal_versions_few_are_taken_back(home: Home) -> None:
    """The stated bound is 2.5 % for all looks together; looks at one stream, 400 of them."""
    guard = promoted(home)
    rng, now, alarms, streams = np.random.default_rng(0), datetime.now(UTC), 0, 400
    for _ in range(streams):
        liked = rng.random((2, 12_800)) < 0.2
        for viewers in (200, 400, 800, 1_600, 3_200, 6_400, 12_800):
            shares = liked[:, :viewers].mean(axis=1)
            found = [
                quality("2", viewers, float(shares[0])),
                quality("1", viewers, float(shares[1])),
            ]
            if guard.look(found, now) is not None:
                alarms += 1
                home.rollout.promote(MOVIE_RECOMMENDER, "2", "again", BY_HAND)
                home.rollout.note(
                    MOVIE_RECOMMENDER, "2", ("challenger", "champion"), "again", "", ACTOR
                )
                break
        guard.looked.clear()
    nominal = 0.025
    assert alarms / streams <= nominal + 3 * sqrt(nominal * (1 - nominal) / streams)
