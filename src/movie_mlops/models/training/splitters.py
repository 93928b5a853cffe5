"""What is hidden from training: each user's last film, a window of time, or a near-last film."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from movie_mlops.domain.errors import TrainingDataError
from movie_mlops.models.algorithms.base import IntArray, TrainingHistories

NEAR_LAST_SHARE = 0.28
NEAR_LAST_PLACES = 5


@dataclass(frozen=True, slots=True)
class Split:
    """Training histories, and the films hidden from them.

    User `users[i]` (position in `train`) has the hidden films
    `targets[indptr[i]:indptr[i + 1]]` (positions in `train.movie_ids`), oldest first; what is
    scored is the user's history in `train`. `negatives` [users, n] are given by a data set
    for the sampled protocol (-1 pads), or None.
    """

    protocol: str
    train: TrainingHistories
    users: IntArray
    indptr: IntArray
    targets: NDArray[np.int32]
    negatives: NDArray[np.int32] | None = None


def leave_last_out(histories: TrainingHistories) -> Split:
    """Hide each user's last film; users with a single film stay in training only."""
    lengths = np.diff(histories.indptr)
    return _hide_one("leave-last-out", histories, np.where(lengths > 1, lengths - 1, -1))


def leave_near_last_out(histories: TrainingHistories, seed: int = 0) -> Split:
    """The split for choosing settings ("val2"): the last film, or one up to 5 places before.

    With probability .72 the last film is hidden, else the one 1 to 5 places before it; later
    films stay in the history. Hiding only the last film flatters models that live on the exact
    order of films rated in one second.
    """
    rng = np.random.default_rng(seed)
    lengths = np.diff(histories.indptr)
    back = rng.integers(1, NEAR_LAST_PLACES + 1, len(lengths))
    back = np.where(rng.random(len(lengths)) < NEAR_LAST_SHARE, back, 0)
    back = np.minimum(back, np.maximum(lengths - 1, 0))
    return _hide_one("near-last-out", histories, np.where(lengths > 1, lengths - 1 - back, -1))


def temporal(histories: TrainingHistories, held_out_share: float = 0.1) -> Split:
    """Hide the last part of time for all users at once; train on what was before.

    The cut is the moment before which 1 - `held_out_share` of all rows lie; rows at the cut
    are hidden. Users without a row before it have no history and are not evaluated.

    Raises:
        TrainingDataError: the data has no times, or all rows are of one moment.
    """
    if histories.times is None or not len(histories.items):
        message = "a temporal split needs interactions with times"
        raise TrainingDataError(message)
    order = np.sort(histories.times)
    cut = order[min(int((1 - held_out_share) * len(order)), len(order) - 1)]
    early = histories.times < cut
    if not early.any():
        message = "a temporal split needs interactions of more than one moment"
        raise TrainingDataError(message)
    owners = _owners(histories)
    train = _kept(histories, early)
    evaluated = (np.diff(train.indptr) > 0) & (
        np.bincount(owners[~early], minlength=histories.user_count) > 0
    )
    hidden = ~early & evaluated[owners]
    users = np.flatnonzero(evaluated)
    counts = np.bincount(owners[hidden], minlength=histories.user_count)[users]
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    return Split("temporal", train, users, indptr, histories.items[hidden])


def _hide_one(protocol: str, histories: TrainingHistories, places: IntArray) -> Split:
    """Hide the film at one place of each history; -1 hides none."""
    users = np.flatnonzero(places >= 0)
    rows = histories.indptr[users] + places[users]
    kept = np.ones(len(histories.items), bool)
    kept[rows] = False
    indptr = np.arange(len(users) + 1, dtype=np.int64)
    return Split(protocol, _kept(histories, kept), users, indptr, histories.items[rows])


def _kept(histories: TrainingHistories, kept: NDArray[np.bool_]) -> TrainingHistories:
    """The same users with only the rows that are kept."""
    counts = np.bincount(_owners(histories)[kept], minlength=histories.user_count)
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    times = None if histories.times is None else histories.times[kept]
    return TrainingHistories(
        histories.movie_ids, histories.user_ids, indptr, histories.items[kept], times
    )


def _owners(histories: TrainingHistories) -> IntArray:
    """Which user each row belongs to."""
    return np.repeat(np.arange(histories.user_count), np.diff(histories.indptr))
