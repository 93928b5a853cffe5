"""Histories: idempotent, in event-time order, undoable, the same after a restart."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.houses import START, interactions

from movie_mlops.domain.errors import ArtifactCorruptError
from movie_mlops.domain.interactions import Interaction, InteractionType, UserId
from movie_mlops.domain.movies import MovieId
from movie_mlops.events.base import Place, Position
from movie_mlops.models.serving.histories import Histories

LENGTH = 10
SNAPSHOT = Histories.from_frame(interactions(), LENGTH).to_arrays()


def act(
    number: int,
    movie: int = 1,
    kind: str = "like",
    user: str = "u",
    hours: float = 0,
    **more: object,
) -> Interaction:
    return Interaction(
        f"e{number}", UserId(user), MovieId(movie), InteractionType(kind),
        START + timedelta(hours=hours), **more,  # type: ignore[arg-type]
    )  # fmt: skip


def films(histories: Histories, user: str = "u") -> list[int]:
    return histories.of(user).films.tolist()


def hidden(histories: Histories, user: str = "u") -> set[int]:
    return set(histories.of(user).hidden.tolist())


def test_every_film_has_its_time() -> None:
    rows = interactions().filter(pl.col("user_id") == "3").sort("timestamp", "line")
    of_snapshot = Histories.from_frame(rows, LENGTH).of("3")
    assert of_snapshot.films.tolist() == rows["movie_id"].to_list()[-LENGTH:]
    assert of_snapshot.times.tolist() == rows["timestamp"].dt.epoch("us").to_list()[-LENGTH:]
    histories = Histories(LENGTH)
    for number, (movie, kind, hours) in enumerate(
        [(7, "like", 5), (8, "watch", 2), (9, "dislike", 3), (7, "watch", 1), (6, "like", 2)]
    ):
        histories.apply(act(number, movie, kind, hours=hours))
    assert films(histories) == [8, 6, 7]
    since = (histories.of("u").times - int(START.timestamp() * 1e6)) / 3.6e9
    assert since.tolist() == [2, 2, 5]
    assert histories.without("u", {6}).times.tolist() == histories.of("u").times[[0, 2]].tolist()


def test_nobody_has_an_empty_history() -> None:
    histories = Histories(LENGTH)
    assert films(histories, "nobody") == []
    assert hidden(histories, "nobody") == set()
    assert histories.user_count == 0


@pytest.mark.parametrize(
    ("kind", "rating", "trains", "hides"),
    [
        ("view", None, False, False),
        ("click", None, False, False),
        ("watch", None, True, True),
        ("like", None, True, True),
        ("dislike", None, False, True),
        ("rating", 3.0, True, True),
        ("rating", 2.5, False, True),
    ],
)
def test_what_each_act_means(kind: str, rating: float | None, trains: bool, hides: bool) -> None:
    histories = Histories(LENGTH)
    histories.apply(act(1, 7, kind, rating=rating))
    assert films(histories) == ([7] if trains else [])
    assert hidden(histories) == ({7} if hides else set())


def test_the_order_is_that_of_event_time_and_the_length_is_bounded() -> None:
    histories = Histories(LENGTH)
    for number in (5, 3, 4, 1, 2):  # hours out of order
        histories.apply(act(number, movie=number, hours=number))
    assert films(histories) == [1, 2, 3, 4, 5]
    for number in range(6, 30):
        histories.apply(act(number, movie=number, hours=number))
    assert films(histories) == list(range(20, 30))
    assert hidden(histories) == set(range(1, 30))


def test_an_event_counts_once_and_undo_takes_it_back_in_any_order() -> None:
    histories = Histories(LENGTH)
    histories.apply(act(1, 7))
    stamp = histories.stamp_of("u")
    histories.apply(act(1, 7))
    assert histories.stamp_of("u") == stamp
    histories.apply(act(2, 0, "undo", target_event_id="e1"))
    assert films(histories) == []
    assert hidden(histories) == set()
    assert histories.stamp_of("u") != stamp
    histories.apply(act(1, 7))  # delivered again after its undo
    assert films(histories) == []
    histories.apply(act(4, 0, "undo", target_event_id="e5"))
    histories.apply(act(5, 8))  # its undo came first
    assert films(histories) == []


def test_an_undo_before_its_target_outlives_a_restart() -> None:
    histories = Histories(LENGTH)
    histories.apply(act(4, 0, "undo", target_event_id="e5"))
    again = Histories.from_arrays(*histories.to_arrays(), LENGTH)
    again.apply(act(5, 8))
    assert films(again) == []
    assert hidden(again) == set()


def test_own_events_outlive_new_histories_until_the_log_is_read_as_far() -> None:
    histories = Histories(LENGTH)
    at = [Position("user-events", 0, offset) for offset in range(4)]
    histories.apply(act(2, 8), at[2])  # taken by this process
    histories.apply(act(0, 6, user="v"), at[0], in_order=True)  # read from the log
    assert [histories.has_applied(each) for each in at] == [False, False, True, False]
    histories.rebase(Histories(LENGTH))
    assert films(histories) == [8]
    histories.advance_all(at[1:3])
    assert [histories.has_applied(each) for each in at] == [True, True, True, False]
    assert histories.reached == {Place("user-events", 0): 3}
    histories.rebase(Histories(LENGTH))
    assert films(histories) == []  # by now the log gives it to whoever reads it again


def test_own_events_are_passed_as_far_as_nobody_elses_is_between() -> None:
    histories = Histories(10)
    places = [Position("user-events", part, offset) for part, offset in [(0, 1), (0, 0), (1, 1)]]
    places += [Position("user-events", 0, 3)]
    for number, place in enumerate(places):
        histories.apply(act(number + 1), place)
    assert histories.pass_own() == {Place("user-events", 0): 2}
    assert histories.reached == {Place("user-events", 0): 2}
    assert all(histories.has_applied(each) for each in places)
    assert not histories.has_applied(Position("user-events", 0, 2))
    histories.advance(Position("user-events", 0, 2))  # somebody else's, read from the log
    assert histories.pass_own() == {Place("user-events", 0): 4}
    histories.advance(Position("user-events", 1, 0))
    assert histories.pass_own() == {Place("user-events", 1): 2}
    assert histories.pass_own() == {}


def test_nobody_undoes_what_another_did() -> None:
    histories = Histories(LENGTH)
    histories.apply(act(1, 7, user="victim"))
    histories.apply(act(2, 0, "undo", user="mallory", target_event_id="e1"))
    assert films(histories, "victim") == [7]


def test_a_million_events_of_one_user_stay_bounded() -> None:
    histories = Histories(LENGTH)
    for number in range(5_000):
        histories.apply(act(number, movie=number % 50 + 1, hours=number))
    user = histories._users["u"]
    assert len(user.acts) <= 4 * LENGTH
    assert len(user.settled) <= 50
    assert films(histories) == [number % 50 + 1 for number in range(4_990, 5_000)]


def test_a_table_gives_the_same_histories_as_its_events() -> None:
    frame = interactions()
    extra = pl.DataFrame(
        {
            "user_id": ["1", "1", "new"],
            "movie_id": [3, 4, 5],
            "interaction_type": ["dislike", "view", "rating"],
            "rating": [None, None, 2.0],
            "timestamp": [START + timedelta(days=9)] * 3,
            "line": [9001, 9002, 9003],
        },
        schema=frame.schema,
    )
    frame = pl.concat([frame, extra])
    table = Histories.from_frame(frame, LENGTH)
    events = Histories(LENGTH)
    for number, row in enumerate(frame.sort("timestamp", "line").iter_rows(named=True)):
        hours = (row["timestamp"] - START).total_seconds() / 3600
        events.apply(
            act(number, row["movie_id"], row["interaction_type"], row["user_id"], hours,
                rating=row["rating"])
        )  # fmt: skip
    assert table.user_count == events.user_count == 61
    for user in ("1", "2", "60", "new"):
        assert films(table, user) == films(events, user)
        assert hidden(table, user) == hidden(events, user)
    assert films(table, "new") == []
    assert hidden(table, "new") == {5}
    assert table.some_users(2) == ["1", "10"]


_ACTS = st.lists(
    st.tuples(
        st.integers(0, 15),
        st.integers(1, 6),
        st.sampled_from(["like", "dislike", "watch", "view", "undo"]),
        st.sampled_from("ab1"),
        st.integers(0, 5),
    ),
    max_size=25,
    unique_by=lambda row: row[0],
)


@settings(max_examples=60, deadline=None)
@given(rows=_ACTS, cut=st.integers(0, 25), twice=st.booleans())
def test_a_restart_in_the_middle_changes_nothing(
    rows: list[tuple[int, int, str, str, int]], cut: int, twice: bool
) -> None:
    acts = [
        act(number, movie, kind, user, hours, target_event_id=f"e{number - 1}")
        for number, movie, kind, user, hours in rows
    ]
    through = Histories.from_arrays(*SNAPSHOT, LENGTH)
    restarted = Histories.from_arrays(*SNAPSHOT, LENGTH)
    for one in acts:
        through.apply(one)
    for one in acts[:cut]:
        restarted.apply(one)
    restarted = Histories.from_arrays(*restarted.to_arrays(), LENGTH)
    for one in acts[0 if twice and not any(a[2] == "undo" for a in rows) else cut :]:
        restarted.apply(one)
    for user in ("a", "b", "1", "2"):
        assert sorted(films(through, user)) == sorted(films(restarted, user))
        assert hidden(through, user) == hidden(restarted, user)


def test_positions_travel_with_the_arrays() -> None:
    histories = Histories(LENGTH)
    position = Position("user-events", 2, 41)
    assert not histories.has_applied(position)
    histories.apply(act(1, 7), position)
    assert histories.has_applied(position)
    assert not histories.has_applied(Position("user-events", 2, 40))
    histories.advance(position)
    again = Histories.from_arrays(*histories.to_arrays(), LENGTH)
    assert again.reached == {Place("user-events", 2): 42}
    assert again.has_applied(Position("user-events", 2, 40))


def test_of_many_active_users_only_some_are_kept_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("movie_mlops.models.serving.histories._KEPT_VIEWS", 2)
    histories = Histories(LENGTH)
    for number in range(50):
        histories.apply(act(number, number, user=f"u{number % 5}"))
        for user in range(5):
            seen = [film for film in range(number + 1) if film % 5 == user]
            assert films(histories, f"u{user}") == seen
        assert len(histories._views) <= 2


def test_users_of_the_snapshot_and_new_ones_are_counted_once() -> None:
    live = Histories.from_frame(interactions(), LENGTH)
    known = live.user_count
    for number, user in enumerate(["1", "new", "new", "newer"]):
        live.apply(act(number, 7 + number, "like", user))
    assert live.user_count == known + 2
    fresh = Histories.from_arrays(*live.to_arrays(), LENGTH)
    assert fresh.user_count == known + 2
    fresh.apply(act(9, 7, "like", "newest"))
    live.rebase(fresh)
    assert live.user_count == known + 3


def test_a_rebase_keeps_what_only_this_process_knows() -> None:
    live = Histories(LENGTH)
    live.apply(act(1, 7), Position("user-events", 0, 5))  # taken here, not yet followed
    live.apply(act(2, 8, user="v"))
    stamp = live.stamp_of("u")
    live.rebase(Histories.from_frame(interactions(), LENGTH))
    assert films(live) == [7]
    assert films(live, "v") == []
    assert len(films(live, "1")) == LENGTH
    assert live.stamp_of("u") != stamp


def test_events_in_the_table_can_still_be_undone_and_come_again() -> None:
    frame = interactions().with_columns(event_id=pl.lit(None, pl.String))
    event = {
        "user_id": "1", "movie_id": 5, "interaction_type": "like", "rating": None,
        "timestamp": START + timedelta(days=3), "line": 1 << 40, "event_id": "e1",
    }  # fmt: skip
    histories = Histories.from_frame(
        pl.concat([frame, pl.DataFrame([event], frame.schema)]), LENGTH
    )
    assert films(histories, "1")[-1] == 5
    histories.apply(act(1, 5, user="1", hours=72))
    assert films(histories, "1").count(5) == 1
    histories.apply(act(2, 0, "undo", user="1", target_event_id="e1"))
    assert 5 not in hidden(histories, "1")


def test_damaged_arrays_are_refused() -> None:
    arrays, card = SNAPSHOT
    for broken, word in (
        ({**arrays, "times": arrays["times"][:-1]}, "disagree"),
        ({**arrays, "movies": np.zeros(3)}, "not a row"),
        ({**arrays, "users": arrays["users"] | 0x80}, "cannot be read"),
        ({}, "users"),
    ):
        with pytest.raises(ArtifactCorruptError, match=word):
            Histories.from_arrays(broken, card, LENGTH)
    with pytest.raises(ArtifactCorruptError, match="positions"):
        Histories.from_arrays(arrays, {}, LENGTH)
