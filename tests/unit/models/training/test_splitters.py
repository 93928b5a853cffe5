"""Splits hide what they say, and nothing hidden stays in training."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from movie_mlops.domain.errors import TrainingDataError
from movie_mlops.models.algorithms.base import TrainingHistories
from movie_mlops.models.training.splitters import (
    Split,
    leave_last_out,
    leave_near_last_out,
    temporal,
)

FILMS = 12


@st.composite
def some_histories(draw: st.DrawFn) -> TrainingHistories:
    lists = draw(st.lists(st.lists(st.integers(0, FILMS - 1), unique=True, max_size=9), max_size=8))
    times = [
        sorted(draw(st.lists(st.integers(0, 20), min_size=len(films), max_size=len(films))))
        for films in lists
    ]
    return TrainingHistories(
        np.arange(FILMS),
        tuple(map(str, range(len(lists)))),
        np.cumsum([0, *map(len, lists)]),
        np.array([film for films in lists for film in films], np.int32),
        np.array([time for of in times for time in of], np.int64),
    )


def hidden_of(split: Split, user: int) -> list[int]:
    found = np.flatnonzero(split.users == user)
    if not len(found):
        return []
    return split.targets[split.indptr[found[0]] : split.indptr[found[0] + 1]].tolist()


@given(some_histories())
def test_leave_last_out_hides_the_last(histories: TrainingHistories) -> None:
    split = leave_last_out(histories)
    for user in range(histories.user_count):
        films = histories.of(user).tolist()
        hidden = films[-1:] if len(films) > 1 else []
        assert hidden_of(split, user) == hidden
        assert split.train.of(user).tolist() == films[: len(films) - len(hidden)]


@given(some_histories(), st.integers(0, 5))
def test_near_last_out_hides_one_of_the_last_six(histories: TrainingHistories, seed: int) -> None:
    split = leave_near_last_out(histories, seed)
    again = leave_near_last_out(histories, seed)
    assert split.targets.tolist() == again.targets.tolist()
    for user in range(histories.user_count):
        films = histories.of(user).tolist()
        hidden = hidden_of(split, user)
        assert len(hidden) == int(len(films) > 1)
        assert set(hidden) <= set(films[-6:])
        assert split.train.of(user).tolist() == [film for film in films if film not in hidden]


def test_near_last_out_hides_the_last_for_72_percent() -> None:
    people, length = 4_000, 20
    items = np.tile(np.arange(length, dtype=np.int32), people)
    indptr = np.arange(people + 1) * length
    histories = TrainingHistories(np.arange(length), tuple(map(str, range(people))), indptr, items)
    places = length - 1 - leave_near_last_out(histories, 1).targets
    shares = np.bincount(places, minlength=6) / people
    assert shares[0] == pytest.approx(0.72, abs=0.03)
    assert shares[1:] == pytest.approx(np.full(5, 0.056), abs=0.015)


@given(some_histories(), st.sampled_from([0.1, 0.3, 0.6]))
def test_temporal_lets_nothing_later_into_training(
    histories: TrainingHistories, share: float
) -> None:
    try:
        split = temporal(histories, share)
    except TrainingDataError:
        assert histories.times is not None
        assert len(np.unique(histories.times)) < 2 or share > 0.5 or len(histories.items) < 12
        return
    assert split.train.times is not None
    assert histories.times is not None
    last_known = split.train.times.max()
    for user in range(histories.user_count):
        films = histories.of(user)
        times = histories.times[histories.indptr[user] : histories.indptr[user + 1]]
        early = films[times <= last_known].tolist()
        assert split.train.of(user).tolist() == early
        expected = films[times > last_known].tolist() if early else []
        assert hidden_of(split, user) == expected


def test_temporal_needs_times() -> None:
    histories = TrainingHistories(
        np.arange(3), ("a",), np.array([0, 2]), np.array([0, 1], np.int32)
    )
    with pytest.raises(TrainingDataError, match="times"):
        temporal(histories)
