"""The list for one user: history, scores, hidden films out, top k, reasons; with a ladder down."""

import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from movie_mlops.domain.interactions import UserId
from movie_mlops.domain.movies import MovieId
from movie_mlops.domain.recommendations import Path, RecommendationList, ScoredMovie
from movie_mlops.domain.versions import MOVIE_RECOMMENDER, Alias
from movie_mlops.models.algorithms.base import FloatArray, IntArray, Recommender
from movie_mlops.models.serving.catalogue import Catalogue
from movie_mlops.models.serving.histories import Histories, UserHistory
from movie_mlops.models.serving.model_loader import LoadedModel, ModelLoader
from movie_mlops.monitoring import metrics

ANONYMOUS = UserId("")
STATIC_VERSION = "none"
_KEPT_LISTS = 10_000
_KEPT_MASKS = 8
_REASONS = 2
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Stamp:
    history: int
    catalogue: int
    card: str


class RecommendationService:
    """Recommends from what is loaded; the same history and model give the same list."""

    def __init__(self, loader: ModelLoader, histories: Histories, catalogue: Catalogue) -> None:
        self._loader, self._histories, self._catalogue = loader, histories, catalogue
        self._lists: OrderedDict[tuple[str, int, Alias], tuple[_Stamp, RecommendationList]] = (
            OrderedDict()
        )
        self._masks: dict[tuple[str, int], NDArray[np.bool_]] = {}

    def recommend(
        self, user_id: UserId, k: int, alias: Alias = Alias.CHAMPION
    ) -> RecommendationList:
        """The `k` best films for the user, fewer when fewer are left; ANONYMOUS has no history.

        `path` tells how: `personal` from the user's films, `newcomer` by popularity because there
        are none yet, `popular` when the model knows none of them or failed, `static` by the
        catalogue's popularity when no model is loaded. Never raises for lack of anything.
        """
        loaded = self._loader.get(MOVIE_RECOMMENDER, alias) or self._loader.get(MOVIE_RECOMMENDER)
        stamp = _Stamp(
            self._histories.stamp_of(user_id),
            self._catalogue.version,
            loaded.entry.card_sha256 if loaded else "",
        )
        key = (user_id, k, alias)
        kept = self._lists.get(key)
        if kept is not None and kept[0] == stamp:
            made = kept[1]
        else:
            start = time.perf_counter()
            made = self._make(user_id, k, loaded)
            self._keep(key, stamp, made)
            metrics.MODEL_SECONDS.labels(MOVIE_RECOMMENDER).observe(time.perf_counter() - start)
        metrics.MODEL_PREDICTIONS.labels(MOVIE_RECOMMENDER, made.model_version, made.path).inc()
        metrics.EXPOSURES.labels(made.path).inc(len(made.items))
        return made

    def similar(self, movie_id: MovieId, k: int) -> tuple[ScoredMovie, ...]:
        """The films most like this one; by genre where nobody has watched it yet.

        Raises:
            MovieNotFoundError: the catalogue has no such film.
        """
        self._catalogue.get(movie_id)
        loaded = self._loader.get(MOVIE_RECOMMENDER)
        if loaded is not None:
            found = self._similar_by_model(loaded, movie_id, k)
            if found:
                return found
        by_genre = self._catalogue.similar_by_genre(movie_id, k)
        return tuple(ScoredMovie(found.movie_id, found.similarity) for found in by_genre)

    def _make(self, user_id: UserId, k: int, loaded: LoadedModel | None) -> RecommendationList:
        history = self._histories.of(user_id)
        if loaded is not None:
            known = _positions(loaded.model, history.films)
            ladder: list[tuple[Path, NDArray[np.int64]]] = []
            if known.size:
                ladder.append(("personal", known))
            ladder.append(("popular" if history.films.size else "newcomer", known[:0]))
            for path, films in ladder:
                try:
                    items = self._scored(loaded, history, films, k)
                except Exception as error:  # noqa: BLE001 (a failing model must not fail the page)
                    metrics.MODEL_FAILURES.labels(MOVIE_RECOMMENDER).inc()
                    _LOG.error("version %s failed: %r", loaded.entry.version, error)
                else:
                    entry = loaded.entry
                    return RecommendationList(user_id, path, entry.version, entry.snapshot, items)
        movies = self._catalogue.popular(k, history.hidden)
        items = tuple(ScoredMovie(movie.movie_id, movie.popularity) for movie in movies)
        return RecommendationList(user_id, "static", STATIC_VERSION, "", items)

    def _scored(
        self, loaded: LoadedModel, history: UserHistory, films: NDArray[np.int64], k: int
    ) -> tuple[ScoredMovie, ...]:
        model: Recommender = loaded.model
        scores = np.array(model.score([films])[0])
        if not np.isfinite(scores).all():
            message = "the scores are not finite"
            raise ValueError(message)
        scores[_positions(model, history.hidden)] = -np.inf
        scores[~self._shown(loaded)] = -np.inf
        ids = np.asarray(model.movie_ids)  # a memory map's own indexing is slow
        return tuple(
            ScoredMovie(
                MovieId(int(ids[at])), float(scores[at]), _because(model, films, int(at), ids)
            )
            for at in _best(scores, k)
        )

    def _similar_by_model(
        self, loaded: LoadedModel, movie_id: MovieId, k: int
    ) -> tuple[ScoredMovie, ...]:
        model: Recommender = loaded.model
        at = _positions(model, np.array([movie_id]))
        if not at.size:
            return ()
        likeness = np.array(model.similar(int(at[0])))
        likeness[at] = -np.inf
        likeness[~self._shown(loaded)] = -np.inf
        best = [row for row in _best(likeness, k) if likeness[row] > 0]
        return tuple(
            ScoredMovie(MovieId(int(model.movie_ids[row])), float(likeness[row])) for row in best
        )

    def _shown(self, loaded: LoadedModel) -> NDArray[np.bool_]:
        """Which of the model's films the catalogue still has."""
        key = (loaded.entry.card_sha256, self._catalogue.version)
        mask = self._masks.get(key)
        if mask is None:
            mask = np.isin(loaded.model.movie_ids, self._catalogue.movie_ids)
            if len(self._masks) >= _KEPT_MASKS:
                self._masks.clear()
            self._masks[key] = mask
        return mask

    def _keep(self, key: tuple[str, int, Alias], stamp: _Stamp, made: RecommendationList) -> None:
        self._lists[key] = (stamp, made)
        self._lists.move_to_end(key)
        if len(self._lists) > _KEPT_LISTS:
            self._lists.popitem(last=False)


def _positions(model: Recommender, movie_ids: IntArray) -> NDArray[np.int64]:
    """Where these films stand in the model's vocabulary; those it does not know are left out."""
    vocabulary = np.asarray(model.movie_ids)
    if not len(vocabulary) or not len(movie_ids):
        return np.empty(0, np.int64)
    at = np.minimum(np.searchsorted(vocabulary, movie_ids), len(vocabulary) - 1)
    known: NDArray[np.int64] = at[vocabulary[at] == movie_ids]
    return known


def _best(scores: FloatArray | NDArray[Any], k: int) -> Sequence[int]:
    """Positions of the k best finite scores, the best first, of equals the first film first."""
    if k < len(scores):
        threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
        candidates = np.flatnonzero(scores >= threshold)
    else:
        candidates = np.arange(len(scores))
    candidates = candidates[np.isfinite(scores[candidates])]
    order = np.argsort(-scores[candidates], kind="stable")[:k]
    return [int(at) for at in candidates[order]]


def _because(
    model: Recommender, films: NDArray[np.int64], item: int, ids: IntArray
) -> tuple[MovieId, ...]:
    """The past films that gave most; the second only when it gave at least half as much."""
    if not films.size:
        return ()
    gave = model.contributions(films, item)
    order = np.argsort(-gave, kind="stable")[:_REASONS]
    least = max(float(gave[order[0]]) / 2, 0.0)
    return tuple(MovieId(int(ids[films[at]])) for at in order if gave[at] > 0 and gave[at] >= least)
