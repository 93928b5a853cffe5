"""Films that the model does not know yet: scored by the films that they are like by content."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from movie_mlops.domain.movies import MovieId
from movie_mlops.domain.recommendations import ScoredMovie
from movie_mlops.models.algorithms.base import FloatArray, IntArray
from movie_mlops.models.serving.catalogue import Catalogue
from movie_mlops.models.serving.content import Content
from movie_mlops.models.serving.history_users import UserHistory
from movie_mlops.models.serving.model_loader import LoadedModel

ONE_IN = 10
"""At most one film of so many in a list is new."""
MOST_NEW = 200  # the most popular ones; each costs a pass over the catalogue when a model comes
NEIGHBOURS = 5
LEAST_LIKENESS = 0.2  # of the nearest film; a new film like no other has no score
_KEPT_MODELS = 8
_REASONS = 2
_Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Newcomers:
    """New films [n], and the positions [n, NEIGHBOURS] and shares of the films they are like."""

    movie_ids: IntArray
    near: NDArray[np.int64]
    shares: FloatArray

    def scores(self, scores: FloatArray, films: NDArray[np.int64]) -> FloatArray:
        """The weighted mean of what their neighbours have, [n].

        A film of the history counts as much as the best of all: it was chosen.
        """
        near = scores[self.near]
        near[np.isin(self.near, films)] = scores.max()
        found: FloatArray = (near * self.shares).sum(axis=1)
        return found


class NewFilms:
    """The new films of every model that is served; `prepare` finds them, off the event loop."""

    def __init__(self, catalogue: Catalogue, content: Content) -> None:
        self._catalogue, self._content = catalogue, content
        self._found: dict[_Key, Newcomers] = {}
        self.version = 0

    def of(self, loaded: LoadedModel) -> Newcomers | None:
        """What was prepared for this model and catalogue; None where there is nothing new."""
        found = self._found.get(self._key(loaded))
        return found if found is not None and len(found.movie_ids) else None

    def prepare(self, loaded: LoadedModel) -> None:
        """Look for new films, and for what they are like, unless that was done already."""
        key = self._key(loaded)
        if key in self._found:
            return
        found = self._look(np.asarray(loaded.model.movie_ids))
        if len(self._found) >= _KEPT_MODELS:
            self._found.clear()
        self._found[key] = found
        self.version += 1

    def _key(self, loaded: LoadedModel) -> _Key:
        return loaded.entry.card_sha256, self._catalogue.version

    def _look(self, vocabulary: IntArray) -> Newcomers:
        catalogue = self._catalogue
        new = np.setdiff1d(catalogue.movie_ids, vocabulary, assume_unique=True)
        known = np.intersect1d(catalogue.movie_ids, vocabulary, assume_unique=True)
        rows: list[tuple[int, NDArray[np.int64], FloatArray]] = []
        if len(new) and len(known):
            index = self._content.index()
            of_index = np.searchsorted(index.movie_ids, known)
            positions = np.searchsorted(vocabulary, known)
            for movie_id in new[np.argsort(catalogue.ranks(new), kind="stable")][:MOST_NEW]:
                alike = index.likeness(int(movie_id))[of_index]
                nearest = np.argsort(-alike, kind="stable")[:NEIGHBOURS]
                if alike[nearest[0]] >= LEAST_LIKENESS:
                    shares = alike[nearest] / alike[nearest].sum()
                    rows.append((int(movie_id), positions[nearest], shares))
        if not rows:
            none = np.empty((0, 0))
            return Newcomers(np.empty(0, np.int64), none.astype(np.int64), none.astype(np.float32))
        ids, near, shares_of = zip(*rows, strict=True)
        return Newcomers(np.array(ids, np.int64), np.stack(near), np.stack(shares_of))


def mixed_in(
    items: tuple[ScoredMovie, ...],
    new: tuple[Newcomers, FloatArray],
    ids: IntArray,
    history: UserHistory,
    k: int,
) -> tuple[ScoredMovie, ...]:
    """The list with the new films that score among its best, one in `ONE_IN` places at most.

    `new` are the new films and their scores, `ids` the model's vocabulary.
    """
    films, scores = new
    least = items[-1].score if len(items) >= k else -np.inf
    may = (scores > least) & ~np.isin(films.movie_ids, history.hidden)
    order = np.flatnonzero(may)[np.argsort(-scores[may], kind="stable")][: k // ONE_IN]
    more = []
    for at in order:
        near = ids[films.near[at]]
        gave = [MovieId(int(film)) for film in near if film in history.films][:_REASONS]
        nearest = gave[0] if gave else MovieId(int(near[0]))
        movie_id = MovieId(int(films.movie_ids[at]))
        more.append(ScoredMovie(movie_id, float(scores[at]), tuple(gave), nearest))
    # stable: of equal scores, the films that the model knows come first
    return tuple(sorted([*items, *more], key=lambda item: -item.score)[:k])
