"""Every film is predicted once, whatever the cut; blurring keeps users and far films apart."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from movie_mlops.models.algorithms.base import TrainingHistories
from movie_mlops.models.algorithms.pieces import among, cut, jittered


def histories_of(lengths: list[int]) -> TrainingHistories:
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    items = np.arange(indptr[-1], dtype=np.int32)  # every place is a film of its own
    return TrainingHistories(
        np.arange(len(items)), tuple(map(str, range(len(lengths)))), indptr, items
    )


@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=12),
    length=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_each_film_but_the_first_is_a_target_once(
    lengths: list[int], length: int, seed: int
) -> None:
    histories, rng = histories_of(lengths), np.random.default_rng(seed)
    pieces = cut(histories, histories.items, length, rng)
    assert (pieces.lengths >= 1).all()
    assert (pieces.lengths <= length).all()
    seen = []
    for chosen in pieces.batches(24, rng):
        inputs, targets, mask = pieces.padded(chosen)
        assert len(chosen) == 1 or mask.size <= 24
        assert (targets[mask] == inputs[mask] + 1).all()
        seen += targets[mask].tolist()
    firsts = set(histories.indptr[:-1][np.diff(histories.indptr) > 0].tolist())
    assert sorted(seen) == [film for film in range(len(histories.items)) if film not in firsts]


def test_half_of_the_cuts_start_at_the_end() -> None:
    histories = histories_of([51] * 2_000)
    pieces = cut(histories, histories.items, 10, np.random.default_rng(0))
    last = pieces.starts + pieces.lengths + 1 == np.repeat(histories.indptr[1:], 51)[pieces.starts]
    whole = (pieces.lengths[last] == 10).mean()
    assert 0.5 < whole < 0.6  # a tenth of the random cuts is whole too


def test_jitter_blurs_a_share_of_the_users_within_its_reach() -> None:
    histories = histories_of([30] * 400)
    items = jittered(histories, 0.4, 3.0, np.random.default_rng(1))
    assert np.array_equal(np.sort(items), histories.items)
    assert np.abs(items - histories.items).max() <= 3
    moved = (items.reshape(400, 30) != histories.items.reshape(400, 30)).any(axis=1)
    assert 0.3 < moved.mean() < 0.5
    assert np.array_equal(items // 30, histories.items // 30)


def test_other_films_are_left_out() -> None:
    histories = histories_of([3, 0, 4])
    kept = among(histories, np.array([1, 2, 5], np.int32))
    assert [kept.of(user).tolist() for user in range(3)] == [[0, 1], [], [2]]
    assert kept.movie_ids.tolist() == [1, 2, 5]
