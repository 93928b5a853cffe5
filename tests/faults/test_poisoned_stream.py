"""Faults 22 and 66: one account, or many of them in one hour, move little and not for long."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from movie_mlops.data.engine import open_table_engine
from movie_mlops.data.tables import INTERACTIONS
from movie_mlops.domain.interactions import Interaction, InteractionType, UserId
from movie_mlops.domain.movies import MovieId
from movie_mlops.features.engineering.interaction_features import MOVIE_ACTIVITY
from movie_mlops.models.serving.histories import Histories
from movie_mlops.models.serving.online_popularity import (
    FEWEST_VIEWERS,
    MOST_LIFTED,
    MOST_PLACES,
    OnlinePopularity,
)
from movie_mlops.models.training.histories import build_histories

NOW = datetime.now(UTC)
IDS = np.arange(1, 201)
BEST = list(range(200))


def act(
    user: str, film: int, number: int, kind: InteractionType = InteractionType.LIKE
) -> Interaction:
    return Interaction(f"{user}-{film}-{number}", UserId(user), MovieId(film), kind, NOW, 5.0)


def ranks(histories: Histories, k: int = 100) -> dict[int, int]:
    """Film to its place in the list of somebody without a history."""
    online = OnlinePopularity(histories)
    online.look()
    order = online.reorder(BEST[: k + MOST_PLACES], IDS, k)
    assert len(order) == len(set(order)) == k
    return {int(IDS[at]): place for place, at in enumerate(order)}


def usual(people: int = 30) -> Histories:
    """Everybody watched the first 30 films, on each of the last days."""
    histories = Histories(50)
    for day in range(1, 6):
        for person in range(people):
            for film in range(1, 31):
                made = act(f"p{person}-{day}", film, day)
                before = NOW - timedelta(days=day)
                histories.apply(
                    Interaction(
                        made.event_id, made.user_id, made.movie_id, made.interaction_type, before
                    )
                )
    return histories


def test_one_account_with_a_hundred_thousand_events_changes_nobodys_list() -> None:
    """Fault 22."""
    histories = usual()
    before = ranks(histories)
    for number in range(100_000):
        histories.apply(act("bomber", 90, number))
    assert ranks(histories) == before
    assert len(histories.of("bomber").films) == 1


@pytest.mark.parametrize("accounts", [200, 2_000])
def test_a_poisoned_hour_moves_a_film_by_the_stated_bound_only(accounts: int) -> None:
    """Fault 66."""
    histories = usual()
    before = ranks(histories)
    for account in range(accounts):
        histories.apply(act(f"fake-{account}", 60, 0))
    after = ranks(histories)
    assert before[60] - after[60] == MOST_PLACES
    assert max(after[film] - before[film] for film in before) <= 1


@given(
    st.dictionaries(st.integers(1, 200), st.integers(0, 3 * FEWEST_VIEWERS), max_size=60),
    st.integers(1, 100),
)
def test_no_stream_moves_any_film_beyond_the_bounds(viewers: dict[int, int], k: int) -> None:
    histories = Histories(50)
    for film, count in viewers.items():
        for person in range(count):
            histories.trends.add(
                int(NOW.timestamp()) // 86_400, film, 1, int(NOW.timestamp()) // 86_400
            )
            del person
    for film, place in ranks(histories, k).items():
        assert -MOST_LIFTED <= (film - 1) - place <= MOST_PLACES


def test_what_becomes_popular_today_moves_up_today() -> None:
    histories = usual()
    for person in range(2 * FEWEST_VIEWERS):
        histories.apply(act(f"fan-{person}", 60, 0))
    assert ranks(histories)[60] < 59


def table(rows: list[tuple[str, int, str, float | None]]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "user_id": user, "movie_id": film, "interaction_type": kind, "rating": rating,
                "timestamp": NOW + timedelta(seconds=line), "line": line,
            }
            for line, (user, film, kind, rating) in enumerate(rows)
        ],
        schema=INTERACTIONS.schema,
    )  # fmt: skip


def build_movie_activity(interactions: pl.DataFrame, spill: Path) -> pl.DataFrame:
    with open_table_engine("duckdb:", spill).open() as tables:
        tables.read("interactions", interactions)
        return tables.frame(MOVIE_ACTIVITY).sort("event_timestamp")


def test_a_rating_bomb_counts_as_one_vote(tmp_path: Path) -> None:
    honest = [(f"p{number}", 1, "rating", 4.0) for number in range(9)]
    bomb = [("bomber", 1, "rating", 0.5)] * 1_000
    last = build_movie_activity(table([*honest, *bomb]), tmp_path).row(-1, named=True)
    assert last["mean_user_rating"] == pytest.approx((9 * 4.0 + 0.5) / 10)
    assert last["watch_count"] == 9


def test_a_person_who_thinks_again_has_one_vote(tmp_path: Path) -> None:
    rows = [
        ("a", 1, "rating", 1.0),
        ("b", 1, "rating", 3.0),
        ("a", 1, "watch", None),
        ("a", 1, "rating", 5.0),
    ]
    found = build_movie_activity(table(rows), tmp_path)
    assert found["mean_user_rating"].to_list() == [1.0, 2.0, 2.0, 4.0]
    assert found["watch_count"].to_list() == [0, 1, 2, 2]


def test_training_takes_a_persons_film_once() -> None:
    bomb = [("bomber", 1, "like", None)] * 1_000
    histories = build_histories(table([*bomb, ("a", 2, "like", None)]), np.array([1, 2]))
    assert histories.items.tolist() in ([0, 1], [1, 0])
