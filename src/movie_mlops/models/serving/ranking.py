"""Where films stand in a model, which of them may be shown, and which have the best scores."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from movie_mlops.models.algorithms.base import FloatArray, IntArray, Recommender, scores_of
from movie_mlops.models.serving.catalogue import Catalogue
from movie_mlops.models.serving.history_users import UserHistory
from movie_mlops.models.serving.model_loader import LoadedModel

_KEPT_MASKS = 8
_BLOCK = 64  # scores whose best one stands for them when the best of all are looked for
_MANY = 1_000  # scores for each place of the list, from which looking at blocks is faster


class Shown:
    """Which of a model's films the catalogue still has."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._gone: dict[tuple[str, int], NDArray[np.int64]] = {}

    def hide(self, scores: FloatArray, loaded: LoadedModel, hidden: NDArray[np.int64]) -> None:
        """Set the scores at these positions, and of films that are gone, to -inf, in place."""
        scores[hidden] = -np.inf
        scores[self._not_shown(loaded)] = -np.inf

    def _not_shown(self, loaded: LoadedModel) -> NDArray[np.int64]:
        """Positions of the model's films that the catalogue does not have any more."""
        key = (loaded.entry.card_sha256, self._catalogue.version)
        gone = self._gone.get(key)
        if gone is None:
            shown = np.isin(loaded.model.movie_ids, self._catalogue.movie_ids)
            gone = np.flatnonzero(~shown)
            if len(self._gone) >= _KEPT_MASKS:
                self._gone.clear()
            self._gone[key] = gone
        return gone


def positions(model: Recommender, movie_ids: IntArray) -> NDArray[np.int64]:
    """Where these films stand in the model's vocabulary; those it does not know are left out."""
    vocabulary = np.asarray(model.movie_ids)
    if not len(vocabulary) or not len(movie_ids):
        return np.empty(0, np.int64)
    at = vocabulary.searchsorted(movie_ids)
    # an id behind the last one is compared with that one
    known: NDArray[np.int64] = at[vocabulary.take(at, mode="clip") == movie_ids]
    return known


def times_known(model: Recommender, history: UserHistory) -> IntArray | None:
    """The times of the history's films that the model knows; None for one that reads no times."""
    if not getattr(model, "reads_times", False):
        return None
    known: IntArray = history.times[np.isin(history.films, model.movie_ids)]
    return known


def scores_for(model: Recommender, films: NDArray[np.int64], times: IntArray | None) -> FloatArray:
    """The scores of all films for one history of positions."""
    scores: FloatArray = scores_of(model, [films], None if times is None else [times])[0]
    return scores


def all_finite(scores: FloatArray) -> bool:
    """Whether no score is NaN or infinite, or so large (1e19) that a sum of squares is."""
    return isfinite(scores.dot(scores))


def best_of(scores: FloatArray | NDArray[Any], k: int) -> Sequence[int]:
    """Positions of the k best finite scores, the best first, of equals the first film first."""
    least = -np.inf
    if k * _MANY < len(scores):
        # At least k scores reach the k-th best of the blocks' best, so the k best all do. A block
        # is every blocks-th score: the best of all blocks are found side by side
        blocks = len(scores) // _BLOCK
        whole = blocks * _BLOCK
        tops = scores[:whole].reshape(_BLOCK, blocks).max(axis=0)
        least = np.partition(tops, blocks - k)[blocks - k]
        some = np.flatnonzero(tops >= least)
        inside = np.add.outer(np.arange(0, whole, blocks), some)  # ascending: of equals the first
        candidates = np.concatenate([inside.reshape(-1), np.arange(whole, len(scores))])
    else:
        if k < len(scores):
            least = np.partition(scores, len(scores) - k)[-k]
        candidates = np.flatnonzero(scores >= least)
    chosen = scores[candidates]
    good = np.flatnonzero((chosen >= least) & np.isfinite(chosen))
    order = np.argsort(-chosen[good], kind="stable")[:k]
    best: list[int] = candidates[good[order]].tolist()
    return best
