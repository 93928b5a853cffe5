"""The list for one user: history, scores, hidden films out, top k, reasons; with a ladder down."""

import logging
import time
from collections import OrderedDict
from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from movie_mlops.domain.errors import EngineUnavailableError, MovieNotFoundError
from movie_mlops.domain.interactions import UserId
from movie_mlops.domain.movies import MovieId
from movie_mlops.domain.recommendations import Path, RecommendationList, ScoredMovie
from movie_mlops.domain.versions import MOVIE_RECOMMENDER, Alias
from movie_mlops.models.algorithms.base import FloatArray, IntArray, Recommender
from movie_mlops.models.serving.batch_lists import BatchLists
from movie_mlops.models.serving.catalogue import Catalogue
from movie_mlops.models.serving.cold_start import NewFilms, mixed_in
from movie_mlops.models.serving.content import Content
from movie_mlops.models.serving.explanations import Explanation, reasons, taken_apart
from movie_mlops.models.serving.histories import Histories
from movie_mlops.models.serving.history_users import UserHistory
from movie_mlops.models.serving.likeness import SimilarFilms
from movie_mlops.models.serving.model_loader import LoadedModel, ModelLoader
from movie_mlops.models.serving.online_popularity import MOST_PLACES, OnlinePopularity
from movie_mlops.models.serving.ranking import (
    Shown,
    all_finite,
    best_of,
    positions,
    scores_for,
    times_known,
)
from movie_mlops.models.serving.reranking import mean_mix, pool, rerank
from movie_mlops.monitoring import metrics

ANONYMOUS = UserId("")
STATIC_VERSION = "none"
Stamp = tuple[int, int, str]
"""Of a user's history, of the catalogue, of the model's card: one stamp, one list."""
_KEPT_LISTS = 1_000
_SECONDS = metrics.MODEL_SECONDS.labels(MOVIE_RECOMMENDER)
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wish:
    """How a list shall differ from the usual one.

    `without`: as if these films had never been liked or watched, so that older films move up;
    they stay hidden. `diversity` 0 ... 1: see `reranking`.
    """

    without: Set[int] = frozenset()
    diversity: float = 0.0


USUAL = Wish()
"""By score alone."""


@lru_cache(maxsize=256)
def _effects(
    version: str, path: Path, films: int
) -> tuple[tuple[metrics.Counter, float], tuple[metrics.Counter, float]]:
    answered = metrics.MODEL_PREDICTIONS.labels(MOVIE_RECOMMENDER, version, path)
    return (answered, 1.0), (metrics.EXPOSURES.labels(path), float(films))


def effects(made: RecommendationList) -> tuple[tuple[metrics.Counter, float], ...]:
    """The instruments that an answer with this list counts in, and by how much."""
    return _effects(made.model_version, made.path, len(made.items))


class RecommendationService:
    """Recommends from what is loaded; the same history and model give the same list."""

    def __init__(
        self,
        loader: ModelLoader,
        histories: Histories,
        catalogue: Catalogue,
        batch: BatchLists | None = None,
    ) -> None:
        self._loader, self._histories, self._catalogue = loader, histories, catalogue
        self._batch = batch
        if batch is not None:
            loader.subscribe(batch.reload)
        self._lists: OrderedDict[tuple[str, int, Alias], tuple[Stamp, RecommendationList]] = (
            OrderedDict()
        )
        self._online = OnlinePopularity(histories)
        self._shown = Shown(catalogue)
        self.content = Content(catalogue)
        self._new = NewFilms(catalogue, self.content)
        self.likeness = SimilarFilms(loader, catalogue, self.content)

    def recommend(
        self, user_id: UserId, k: int, alias: Alias = Alias.CHAMPION
    ) -> RecommendationList:
        """The `k` best films for the user, fewer when fewer are left; ANONYMOUS has no history.

        `path` tells how: `personal` from the user's films, `newcomer` by popularity because there
        are none yet, `popular` when the model knows none of them or failed, `batch` when no model
        is loaded and the user has a list made before, else `static` by the catalogue's popularity.
        Never raises for lack of anything.
        """
        made = self.list_for(user_id, k, alias)
        for counter, amount in effects(made):
            counter.inc(amount)
        return made

    def stamp(self, user_id: UserId, alias: Alias = Alias.CHAMPION) -> Stamp:
        """What the user's list depends on; microseconds, so that a made answer can be kept."""
        loaded = self._loaded(alias)
        return (
            self._histories.stamp_of(user_id),
            self._catalogue.version + self._new.version + self._online.look(),
            loaded.entry.card_sha256 if loaded is not None else "",
        )

    def list_for(
        self, user_id: UserId, k: int, alias: Alias = Alias.CHAMPION
    ) -> RecommendationList:
        """As `recommend`, for callers that count the answer themselves, by its `effects`."""
        stamp, loaded = self.stamp(user_id, alias), self._loaded(alias)
        key = (user_id, k, alias)
        kept = self._lists.get(key)
        if kept is not None and kept[0] == stamp:
            return kept[1]
        start = time.perf_counter()
        made = self._make(user_id, self._histories.of(user_id), k, loaded)
        self._keep(key, stamp, made)
        _SECONDS.observe(time.perf_counter() - start)
        return made

    def challenge(self, user_id: UserId, k: int) -> RecommendationList | None:
        """The challenger's list, kept nowhere; None while there is none. Raises what it raises."""
        loaded = self._loader.get(MOVIE_RECOMMENDER, Alias.CHALLENGER)
        if loaded is None:
            return None
        history = self._histories.of(user_id)
        known = positions(loaded.model, history.films)
        without: Path = "popular" if history.films.size else "newcomer"
        items = self._scored(loaded, history, known, k)
        entry, path = loaded.entry, "personal" if known.size else without
        return RecommendationList(user_id, path, entry.version, entry.snapshot, items)

    def prepare(self) -> None:
        """Get ready for the films that a served model does not know; call it when either changes.

        It may take a second with many films: not for the event loop.
        """
        for alias in Alias:
            loaded = self._loader.get(MOVIE_RECOMMENDER, alias)
            if loaded is not None:
                self._new.prepare(loaded)

    def list_as_wished(
        self, user_id: UserId, k: int, wish: Wish, alias: Alias = Alias.CHAMPION
    ) -> RecommendationList:
        """As `recommend` otherwise; made each time, and not counted."""
        history = self._histories.of(user_id)
        if wish.without:
            history = self._histories.without(user_id, wish.without)
        return self._make(user_id, history, k, self._loaded(alias), wish)

    def explain(
        self, user_id: UserId, movie_id: MovieId, alias: Alias = Alias.CHAMPION
    ) -> Explanation:
        """What each film of the user's history gives to the film's score.

        Raises:
            MovieNotFoundError: the catalogue has no such film, or the model does not know it yet.
            EngineUnavailableError: no model is loaded.
        """
        self._catalogue.get(movie_id)
        loaded = self._loaded(alias)
        if loaded is None:
            message = "no recommender is served yet; run `movie-mlops run training`"
            raise EngineUnavailableError(message, retry_after_seconds=10.0)
        model: Recommender = loaded.model
        at = positions(model, np.array([movie_id]))
        if not at.size:
            message = (
                f"version {loaded.entry.version} of the model does not know film {movie_id} yet; "
                "it is recommended for the films that it is like"
            )
            raise MovieNotFoundError(message)
        history = self._histories.of(user_id)
        films, item = positions(model, history.films), int(at[0])
        times = times_known(model, history)
        scores = np.array(scores_for(model, films, times))
        score = float(scores[item])
        baseline, exact, parts = taken_apart(model, films, item, score, times)
        self._shown.hide(scores, loaded, positions(model, history.hidden))
        rank = int((scores > score).sum()) + 1 if np.isfinite(scores[item]) else None
        return Explanation(
            user_id, movie_id, score, baseline, exact, parts, rank,
            loaded.entry.version, loaded.entry.snapshot,
        )  # fmt: skip

    def similar(self, movie_id: MovieId, k: int) -> tuple[ScoredMovie, ...]:
        """The films most like this one; see `SimilarFilms.of`.

        Raises:
            MovieNotFoundError: the catalogue has no such film.
        """
        return self.likeness.of(movie_id, k)[1]

    def _loaded(self, alias: Alias) -> LoadedModel | None:
        return self._loader.get(MOVIE_RECOMMENDER, alias) or self._loader.get(MOVIE_RECOMMENDER)

    def _make(
        self, user_id: UserId, history: UserHistory, k: int, loaded: LoadedModel | None,
        wish: Wish = USUAL,
    ) -> RecommendationList:  # fmt: skip
        if loaded is not None:
            known = positions(loaded.model, history.films)
            ladder: list[tuple[Path, NDArray[np.int64]]] = []
            if known.size:
                ladder.append(("personal", known))
            ladder.append(("popular" if history.films.size else "newcomer", known[:0]))
            for path, films in ladder:
                try:
                    items = self._scored(loaded, history, films, k, wish)
                except Exception as error:  # noqa: BLE001 (a failing model must not fail the page)
                    metrics.MODEL_FAILURES.labels(MOVIE_RECOMMENDER).inc()
                    _LOG.error("version %s failed: %r", loaded.entry.version, error)
                else:
                    entry = loaded.entry
                    return RecommendationList(user_id, path, entry.version, entry.snapshot, items)
        made = self._batch.of(user_id, k, history.hidden) if self._batch is not None else None
        if made is not None and made.items:
            return made
        movies = self._catalogue.popular(k, history.hidden)
        items = tuple(ScoredMovie(movie.movie_id, movie.popularity) for movie in movies)
        return RecommendationList(user_id, "static", STATIC_VERSION, "", items)

    def _scored(
        self,
        loaded: LoadedModel,
        history: UserHistory,
        films: NDArray[np.int64],
        k: int,
        wish: Wish = USUAL,
    ) -> tuple[ScoredMovie, ...]:
        model: Recommender = loaded.model
        times = times_known(model, history) if films.size else None
        scores = scores_for(model, films, times)  # made for this call: ours to write to
        if not all_finite(scores):
            message = "the scores are not finite"
            raise ValueError(message)
        # with the dial up, places do not go by score, so that none can be kept for new films
        new = self._new.of(loaded) if films.size and not wish.diversity else None
        of_new = new.scores(scores, films) if new is not None else None
        alike = films.size and history.hidden is history.films
        hidden = films if alike else positions(model, history.hidden)
        self._shown.hide(scores, loaded, hidden)
        ids = np.asarray(model.movie_ids)  # a memory map's own indexing is slow
        if films.size:
            best = best_of(scores, k)
        else:
            best = self._online.reorder(best_of(scores, k + MOST_PLACES), ids, k)
        if wish.diversity:
            best = self._varied(scores, ids, ids[films], k, wish.diversity)
        because = reasons(model, ids[films], films, best, times)
        columns = ids[best].tolist(), scores[best].tolist(), because
        items = tuple(map(ScoredMovie, *columns))
        if new is None or of_new is None:
            return items
        return mixed_in(items, (new, of_new), ids, history, k)

    def _varied(
        self, scores: FloatArray, ids: IntArray, watched: IntArray, k: int, dial: float
    ) -> Sequence[int]:
        best = np.array(best_of(scores, pool(k)), np.int64)
        wanted = mean_mix(self._catalogue.genre_mixes(watched))
        mixes = self._catalogue.genre_mixes(ids[best])
        varied: list[int] = best[rerank(scores[best], mixes, wanted, k, dial)].tolist()
        return varied

    def _keep(self, key: tuple[str, int, Alias], stamp: Stamp, made: RecommendationList) -> None:
        self._lists[key] = (stamp, made)
        self._lists.move_to_end(key)
        if len(self._lists) > _KEPT_LISTS:
            self._lists.popitem(last=False)
