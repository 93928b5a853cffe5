"""Viewers per film and day: each once a day, exact under repeats, undo and a restart."""

import tracemalloc
from collections import Counter
from datetime import UTC, datetime, timedelta
from unittest.mock import patch

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from movie_mlops.domain.interactions import Interaction, InteractionType, UserId
from movie_mlops.domain.movies import MAX_MOVIE_ID, MovieId
from movie_mlops.models.serving import trends
from movie_mlops.models.serving.histories import Histories
from movie_mlops.models.serving.history_users import _BITS
from movie_mlops.models.serving.trends import DAYS, DailyViewers

NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
TODAY = int(NOON.timestamp()) // 86_400
LENGTH = 50
Row = tuple[int, str, int, int, str]


def act(number: int, user: str, movie: int, days_ago: int, kind: str) -> Interaction:
    return Interaction(
        f"e{number}", UserId(user), MovieId(movie), InteractionType(kind),
        NOON - timedelta(days=days_ago), target_event_id=f"e{number - 1}",
    )  # fmt: skip


def counted(histories: Histories, days: int) -> dict[int, int]:
    _, films, viewers = histories.trends.since(days, TODAY)
    return dict(zip(films.tolist(), viewers.tolist(), strict=True))


FILMS = [1, 2, 1 + _BITS, MAX_MOVIE_ID]  # two of them share a bit of their user
ROWS = st.lists(
    st.tuples(
        st.integers(0, 40), st.sampled_from("abc"), st.sampled_from(FILMS), st.integers(0, 40),
        st.sampled_from(["like", "watch", "dislike", "view", "undo"]),
    ),
    max_size=30, unique_by=lambda row: row[0],
)  # fmt: skip


def expected(rows: list[Row], days: int) -> dict[int, int]:
    """By the definition, from all that happened."""
    undone = {(user, number - 1) for number, user, _, _, kind in rows if kind == "undo"}
    watched = {
        (user, movie, ago) for number, user, movie, ago, kind in rows
        if kind in ("like", "watch") and (user, number) not in undone
    }  # fmt: skip
    newest = min((ago for _, _, ago in watched), default=0)
    return dict(Counter(movie for _, movie, ago in watched if newest <= ago < newest + days))


@settings(max_examples=80, deadline=None)
@given(rows=ROWS, days=st.integers(1, DAYS), cut=st.integers(0, 30), again=st.booleans())
def test_viewers_are_counted_as_defined(rows: list[Row], days: int, cut: int, again: bool) -> None:
    rows = sorted(rows)
    histories = Histories(LENGTH)
    acts = [act(*row) for row in rows]
    for one in acts[:cut]:
        histories.apply(one)
    if again:  # the same events come twice, and undone ones stay undone
        for one in acts[:cut]:
            histories.apply(one)
    for one in acts[cut:]:
        histories.apply(one)
    newest = min((r[3] for r in rows if r[4] in ("like", "watch")), default=0)
    # what is older than a month was dropped before the newest was taken back
    assume(not any(r[4] == "undo" for r in rows) or all(r[3] - newest < DAYS - 10 for r in rows))
    assert counted(histories, days) == expected(rows, days)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, days=st.integers(1, DAYS), at_once=st.integers(1, 10))
def test_a_snapshot_has_the_same_counts(rows: list[Row], days: int, at_once: int) -> None:
    histories = Histories(LENGTH)
    for row in sorted(rows):
        histories.apply(act(*row))
    # so that it is read in several parts, which are added up now and then
    with patch.multiple(trends, _ACTS_AT_ONCE=at_once, _KEYS_AT_ONCE=at_once):
        again = Histories.from_arrays(*histories.to_arrays(), LENGTH)
    assert counted(again, days) == counted(histories, days)
    fresh = Histories(LENGTH)
    fresh.rebase(again)
    assert counted(fresh, days) == counted(histories, days)


def test_a_film_of_the_snapshot_that_is_liked_again_that_day_counts_once() -> None:
    first = Histories(LENGTH)
    first.apply(act(1, "a", 7, 0, "watch"))
    again = Histories.from_arrays(*first.to_arrays(), LENGTH)
    again.apply(act(3, "a", 7, 0, "like"))
    assert counted(again, 7) == {7: 1}
    again.apply(act(5, "b", 7, 0, "like"))
    assert counted(again, 7) == {7: 2}


def test_days_to_come_count_when_they_have_come_and_old_ones_go() -> None:
    none = np.empty(0, np.int64)
    viewers = DailyViewers(none, none, none)
    assert viewers.since(7, TODAY)[0] is None
    viewers.add(TODAY + 400, 1, 1, TODAY)
    viewers.add(TODAY, 2, 1, TODAY)
    viewers.add(TODAY - DAYS, 3, 1, TODAY)  # too old
    until, films, _ = viewers.since(DAYS, TODAY)
    assert (until, films.tolist()) == (TODAY, [2])
    viewers.add(TODAY + 40, 4, 1, TODAY + 40)
    assert viewers.since(DAYS, TODAY + 40)[1].tolist() == [4]
    assert viewers.since(1, TODAY + 400)[1].tolist() == [1]


def test_counting_a_snapshot_takes_memory_for_a_part_of_it_only() -> None:
    users, length = 25_000, 40
    films = np.arange(users * length, dtype=np.int64) % 1_000
    times = np.full(len(films), TODAY * trends.MICROSECONDS_PER_DAY)
    ends = range(length, len(films) + 1, length)
    tracemalloc.start()
    viewers = trends.recent_viewers(ends, (films, times, np.ones(len(films), np.bool_)), TODAY)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert viewers.on(TODAY) == [(film, len(films) // 1_000) for film in range(1_000)]
    assert peak < 2 * films.nbytes  # all at once took eleven columns
