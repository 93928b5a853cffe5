"""What the PyTorch API serves: the network of the manifest, or the champion while there is none."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from movie_mlops.domain.errors import ConfigurationError, EngineUnavailableError, MovieMlopsError
from movie_mlops.domain.interactions import UserId
from movie_mlops.domain.movies import MovieId
from movie_mlops.domain.recommendations import RecommendationList, ScoredMovie
from movie_mlops.domain.versions import MOVIE_RECOMMENDER, NEURAL_RECOMMENDER, Alias
from movie_mlops.models.algorithms.base import Recommender
from movie_mlops.models.bundle import load_bundle
from movie_mlops.models.serving.histories import Histories
from movie_mlops.models.serving.history_users import UserHistory
from movie_mlops.models.serving.model_loader import Load, LoadedModel, ModelLoader, bundle_folder
from movie_mlops.models.serving.ranking import positions, scores_for, times_known
from movie_mlops.models.serving.recommender import RecommendationService
from movie_mlops.models.serving.services import ApiServices
from movie_mlops.models.serving.trends import DailyViewers
from movie_mlops.monitoring import metrics

_LOG = logging.getLogger(__name__)


class NeuralModels:
    """The served network on PyTorch's device; follows the manifest through `loader`.

    `on_device` makes the model run in PyTorch and refuses what is no network. A bundle that cannot
    be loaded leaves the last good network in place.
    """

    def __init__(
        self,
        loader: ModelLoader,
        serving: Path,
        load: Load,
        on_device: Callable[[Recommender], Recommender],
    ) -> None:
        self._loader, self._serving = loader, serving
        self._load, self._on_device = load, on_device
        self._network: LoadedModel | None = None
        self.problem = ""
        loader.subscribe(self.reload)

    @property
    def name(self) -> str:
        """The registered model that answers."""
        return NEURAL_RECOMMENDER if self._network is not None else MOVIE_RECOMMENDER

    def get(self, name: str = "", alias: Alias = Alias.CHAMPION) -> LoadedModel | None:
        """The network, else the recommender's champion; one model answers whatever is asked for."""
        del name, alias
        return self._network or self._loader.get(MOVIE_RECOMMENDER)

    def reload(self) -> None:
        """Take the network that the manifest names, when it is another one."""
        entry = self._loader.served(NEURAL_RECOMMENDER).champion
        if entry is None:
            self._network, self.problem = None, ""
            return
        if self._network is not None and self._network.entry == entry:
            return
        try:
            folder = bundle_folder(self._serving, entry)
            arrays, card = load_bundle(folder, entry.card_sha256)
            model = self._running(cast("Recommender", self._load(arrays, card)))
            self._network, self.problem = LoadedModel(entry, card, model), ""
        except MovieMlopsError as error:
            metrics.BUNDLES_REFUSED.labels(NEURAL_RECOMMENDER).inc()
            self.problem = f"{error}; what was served before stays in place"
            _LOG.error("%s: %s", NEURAL_RECOMMENDER, self.problem)

    def _running(self, model: Recommender) -> Recommender:
        try:
            return self._on_device(model)
        except ConfigurationError as error:
            _LOG.warning("%s", error)
            return model  # a blend, say: it has its own NumPy forward


@dataclass(frozen=True, slots=True)
class _SeenToo:
    """Histories that hide nothing but what was disliked: for lists with films seen before."""

    histories: Histories

    @property
    def trends(self) -> DailyViewers:
        """As of the histories."""
        return self.histories.trends

    def stamp_of(self, user_id: UserId) -> int:
        """As of the histories."""
        return self.histories.stamp_of(user_id)

    def of(self, user_id: UserId) -> UserHistory:
        """The history with its own films not hidden."""
        found = self.histories.of(user_id)
        return replace(found, hidden=np.setdiff1d(found.hidden, found.films))


class NeuralService:
    """Scores and lists by `models` over the histories and the catalogue of `services`."""

    def __init__(self, models: NeuralModels, services: ApiServices) -> None:
        self.models, self._histories = models, services.histories
        source: Any = models  # it has the one method of a loader that the lists ask
        seen_too: Any = _SeenToo(services.histories)
        catalogue = services.catalogue
        self._unseen = RecommendationService(source, services.histories, catalogue)
        self._all = RecommendationService(source, seen_too, catalogue)

    def recommend(self, user_id: UserId, k: int, *, exclude_seen: bool) -> RecommendationList:
        """The `k` best films; with `exclude_seen` none of those that the user has watched."""
        made = (self._unseen if exclude_seen else self._all).list_for(user_id, k)
        self._count(made.model_version, made.path)
        metrics.EXPOSURES.labels(made.path).inc(len(made.items))
        return made

    def similar(self, movie_id: MovieId, k: int) -> tuple[ScoredMovie, ...]:
        """The films most like this one; by genre where nobody has watched it yet.

        Raises:
            MovieNotFoundError: the catalogue has no such film.
        """
        return self._unseen.similar(movie_id, k)

    def predict(
        self, user_id: UserId, movie_ids: Sequence[MovieId]
    ) -> tuple[list[float | None], str]:
        """The user's score of each film in order, None where the model knows no such film.

        The second value is the version that scored.

        Raises:
            EngineUnavailableError: no model is loaded yet.
        """
        loaded = self.models.get()
        if loaded is None:
            message = "no recommender is served yet; run `movie-mlops run training`"
            raise EngineUnavailableError(message, retry_after_seconds=10.0)
        model: Recommender = loaded.model
        place = {int(film): at for at, film in enumerate(np.asarray(model.movie_ids))}
        history = self._histories.of(user_id)
        known = positions(model, history.films)
        with metrics.MODEL_SECONDS.labels(self.models.name).time():
            scores = scores_for(model, known, times_known(model, history))
        self._count(loaded.entry.version, "personal" if len(known) else "newcomer")
        return [
            float(scores[place[film]]) if film in place else None for film in movie_ids
        ], loaded.entry.version

    def _count(self, version: str, path: str) -> None:
        metrics.MODEL_PREDICTIONS.labels(self.models.name, version, path).inc()
