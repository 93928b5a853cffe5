"""Online quality: what followed each version's lists, right from the first minute."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from movie_mlops.domain.interactions import InteractionType
from movie_mlops.domain.requests import new_request_id
from movie_mlops.domain.versions import MOVIE_RECOMMENDER
from movie_mlops.events import EventLog, open_event_log
from movie_mlops.events.schemas import USER_EVENTS, UserInteractionEvent, encode
from movie_mlops.models.serving import exposures
from movie_mlops.models.serving.exposure_engines import open_exposure_store
from movie_mlops.models.serving.exposures import ExposureLog, Shown
from movie_mlops.models.serving.feedback import Outcomes
from movie_mlops.models.serving.online_quality import (
    KEPT_VERSIONS,
    VersionQuality,
    gauges,
    online_quality,
    wilson,
)


class House:
    """Exposures and events of one home; time is what the test says."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = datetime.now(UTC)
        self.log: EventLog = open_event_log("sqlite:events.db", home, 50_000_000)
        self.store = open_exposure_store(home, "one")
        self.exposures = ExposureLog(self.store)
        self.outcomes = Outcomes(self.log)
        self._clock = monkeypatch

    def show(
        self, user: str, minutes_ago: float, version: str = "1", kind: str = "list", **more: str
    ) -> str:
        at = (self.now - timedelta(minutes=minutes_ago)).timestamp()
        with self._clock.context() as clock:
            clock.setattr(exposures.time, "time", lambda: at)
            request_id = new_request_id()
            model = more.get("model", MOVIE_RECOMMENDER)
            shown = Shown(kind, user, "personal", model, version, "s", items=(1, 2, 3))
            self.exposures.note(request_id, shown)
        return request_id

    def act(
        self, user: str, request_id: str, kind: str = "click", film: int = 1, **more: float
    ) -> str:
        """Published now; `minutes_ago` is when it happened."""
        when = self.now - timedelta(minutes=more.pop("minutes_ago", 0.0))
        event = UserInteractionEvent(
            user,
            film,
            InteractionType(kind),
            when,
            rating=more.get("rating"),
            request_id=request_id,
        )
        new = encode(event)
        self.log.publish(USER_EVENTS, [new])
        return new.event_id

    def look(self, later_minutes: float = 0.1) -> list[VersionQuality]:
        self.exposures.flush()
        now = self.now + timedelta(minutes=later_minutes)
        return online_quality(self.store, self.outcomes, now, attribution_minutes=60)

    def close(self) -> None:
        self.exposures.close()
        self.store.close()
        self.log.close()


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    made = House(tmp_path, monkeypatch)
    yield made
    made.close()


def test_rates_by_version_count_lists_and_viewers(house: House) -> None:
    for number in range(8):
        request_id = house.show(f"a{number}", 90, "1")
        if number < 2:
            house.act(f"a{number}", request_id, minutes_ago=80)
            house.act(f"a{number}", request_id, minutes_ago=79)  # the same list counts once
        if number == 0:
            house.act("a0", request_id, "watch", minutes_ago=70)
            house.act("a0", request_id, "rating", rating=4.0, minutes_ago=60)
            house.act("a0", request_id, "rating", film=2, rating=2.0, minutes_ago=60)
    last = house.show("b", 70, "2")
    house.act("b", last, "like", minutes_ago=69)
    second, first = house.look()
    assert (first.model_version, first.exposures, first.viewers) == ("1", 8, 8)
    assert (first.clicks, first.watches, first.positives) == (2, 1, 1)
    assert first.click_through.value == pytest.approx(2 / 8)
    assert first.watch_share.value == pytest.approx(1 / 8)
    assert (first.ratings, first.mean_rating) == (2, 3.0)
    assert (second.model_version, second.positives, second.clicks) == ("2", 1, 0)
    assert second.positive_share.value == 1.0
    assert second.mean_rating is None


def test_what_does_not_follow_a_list_does_not_count(house: House) -> None:
    request_id = house.show("a", 90)
    house.act("a", request_id, film=99, minutes_ago=80)  # not in the list
    house.act("b", request_id, minutes_ago=80)  # another viewer
    house.act("a", new_request_id(), minutes_ago=80)  # no such answer
    house.act("a", request_id, minutes_ago=10)  # after the window
    house.act("a", request_id, "dislike", minutes_ago=80)
    for kind, model in (("shadow", MOVIE_RECOMMENDER), ("list", "another_model")):
        house.show("a", 90, kind=kind, model=model)
    house.show("a", 90, version="")  # the static list of an API without a model
    [found] = house.look()
    assert (found.exposures, found.clicks, found.positives) == (1, 0, 0)
    assert found.click_through.value == 0.0
    assert found.click_through.high is not None


def test_an_act_that_is_undone_no_longer_counts(house: House) -> None:
    request_id = house.show("a", 90)
    event_id = house.act("a", request_id, minutes_ago=80)
    assert house.look()[0].clicks == 1
    undo = UserInteractionEvent("a", 1, InteractionType.UNDO, house.now, target_event_id=event_id)
    house.log.publish(USER_EVENTS, [encode(undo)])
    assert house.look()[0].clicks == 0


def test_a_list_of_this_minute_is_no_failure_yet_and_a_late_label_moves_the_figure(
    house: House,
) -> None:
    """Fault 70."""
    old, young = house.show("a", 90), house.show("b", 1)
    [found] = house.look()
    assert (found.exposures, found.click_through.weight) == (2, 1.0)
    assert found.click_through.value == 0.0
    house.act("a", old, minutes_ago=85)  # it happened in time and arrives only now
    assert house.look()[0].click_through.value == 1.0
    house.act("b", young)
    assert house.look(later_minutes=61)[0].click_through.weight == 2.0
    assert house.look(later_minutes=61)[0].click_through.value == 1.0


def test_young_lists_count_by_the_chance_that_their_click_would_have_come() -> None:
    """The share of the first minutes is right on average, counting it plainly is not."""
    from movie_mlops.models.serving import online_quality as module

    rng = np.random.default_rng(0)
    count, share, window = 40_000, 0.2, 3_600_000.0
    age = rng.uniform(0, 4 * window, count)
    age[:20_000] = rng.uniform(0, 0.2 * window, 20_000)  # most lists are young
    delay = np.where(rng.random(count) < share, rng.exponential(0.2 * window, count), np.inf)
    delay[delay > window] = np.inf
    true = float(np.isfinite(delay[20_000:]).mean())
    seen = np.where(delay <= age, delay, np.inf)
    weight = module._weights(age, seen, window)
    rate = module._rate(np.isfinite(seen), weight, np.arange(count))
    assert rate.low is not None
    assert rate.high is not None
    assert rate.low <= true <= rate.high
    assert np.isfinite(seen).mean() < rate.low  # counting young lists as failures


def test_lists_of_one_viewer_widen_the_interval() -> None:
    from movie_mlops.models.serving import online_quality as module

    happened, weight = np.arange(1_000) % 100 < 20, np.ones(1_000)
    alone = module._rate(happened, weight, np.arange(1_000))
    ten_each = module._rate(happened, weight, np.arange(1_000) // 10)
    assert alone.value == ten_each.value == pytest.approx(0.2)
    widths = [each.high - each.low for each in (ten_each, alone)]  # type: ignore[operator]
    assert widths[0] > 2.5 * widths[1]
    assert (alone.low, alone.high) == pytest.approx(wilson(0.2, 1_000), rel=1e-3)


@given(st.floats(0, 1), st.floats(0.5, 1e6))
def test_wilsons_interval_holds_the_share_and_stays_within_0_and_1(
    share: float, count: float
) -> None:
    low, high = wilson(share, count)
    assert 0 <= low <= share + 1e-9
    assert share - 1e-9 <= high <= 1


def test_only_the_versions_shown_last_have_gauges(house: House) -> None:
    for version in range(1, 8):
        house.show("a", 200 - version, str(version))
    found = house.look()
    assert len(found) == 7
    assert [each.films for each in found] == [3] * 7
    shown = gauges(found, catalogue=12)
    assert shown["recommendation_coverage"]["7"] == pytest.approx(3 / 12)
    assert list(gauges([], catalogue=0)["recommendation_coverage"]) == []
    assert list(shown["online_exposures"]) == ["7", "6", "5", "4"]
    assert all(len(values) <= KEPT_VERSIONS for values in shown.values())
    assert shown["online_mean_rating"] == {}


def test_only_new_events_are_read_again_and_old_ones_are_forgotten(house: House) -> None:
    request_id = house.show("a", 90)
    house.act("a", request_id, minutes_ago=80)
    now_ms = round(1000 * house.now.timestamp())
    assert list(house.outcomes.read(now_ms - 60_000)) == [request_id]
    before = dict(house.outcomes._next)
    assert list(house.outcomes.read(now_ms - 60_000)) == [request_id]
    assert house.outcomes._next == before
    assert list(house.outcomes.read(now_ms + 600_000)) == []
    fresh = Outcomes(house.log)  # starts where the day begins, not at the beginning of the log
    assert fresh.read(now_ms + 600_000) == {}
    assert max(fresh._next.values()) == 1


def test_nothing_shown_is_an_empty_list(house: House) -> None:
    assert house.look() == []
