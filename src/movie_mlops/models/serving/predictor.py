"""Ratings of films by the served rating model."""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache
from math import nan

import msgspec
import numpy as np

from movie_mlops.domain.errors import EngineUnavailableError
from movie_mlops.domain.recommendations import RatingPrediction
from movie_mlops.domain.versions import MOVIE_PREDICTOR
from movie_mlops.models.algorithms.base import RatingRows
from movie_mlops.models.algorithms.rating_features import Film
from movie_mlops.models.serving.model_loader import LoadedModel, ModelLoader
from movie_mlops.monitoring import metrics

_KEPT_RATINGS = 1_000
_SECONDS = metrics.MODEL_SECONDS.labels(MOVIE_PREDICTOR)


@lru_cache(maxsize=64)
def _counter(version: str) -> metrics.Counter:
    return metrics.MODEL_PREDICTIONS.labels(MOVIE_PREDICTOR, version, "model")


class MovieFacts(msgspec.Struct, frozen=True):
    """What is known of a film whose rating is asked for; None where it is not known."""

    title: str
    original_title: str
    start_year: int | None
    runtime_minutes: float | None
    num_votes: int | None
    genres: tuple[str, ...]
    is_adult: bool


class RatingService:
    """Predicts with the champion that is loaded."""

    def __init__(self, loader: ModelLoader) -> None:
        self._loader = loader
        self._known: OrderedDict[tuple[str, MovieFacts], RatingPrediction] = OrderedDict()

    def predict(self, films: Sequence[MovieFacts]) -> list[RatingPrediction]:
        """One prediction per film, in order.

        What a version said of a film is kept for the next time, for the latest films asked about.

        Raises:
            EngineUnavailableError: no rating model is loaded yet.
        """
        loaded = self._champion()
        sha256 = loaded.entry.card_sha256
        found = [self._known.get((sha256, film)) for film in films]
        missing = [place for place, one in enumerate(found) if one is None]
        if missing:
            start = time.perf_counter()
            made = _predictions(loaded, [films[place] for place in missing])
            for place, one in zip(missing, made, strict=True):
                found[place] = one
                self._keep((sha256, films[place]), one)
            metrics.TALLY.time((_SECONDS, time.perf_counter() - start))
        metrics.TALLY.count((_counter(loaded.entry.version), float(len(films))))
        return [one for one in found if one is not None]

    def predict_one(self, film: MovieFacts) -> RatingPrediction:
        """The same for one film."""
        loaded = self._champion()
        key = (loaded.entry.card_sha256, film)
        found = self._known.get(key)
        if found is None:
            start = time.perf_counter()
            found = _prediction(loaded, film)
            self._keep(key, found)
            metrics.TALLY.time((_SECONDS, time.perf_counter() - start))
        metrics.TALLY.count((_counter(loaded.entry.version), 1.0))
        return found

    def _champion(self) -> LoadedModel:
        loaded = self._loader.get(MOVIE_PREDICTOR)
        if loaded is None:
            message = "no rating model is served yet; run `movie-mlops run rating_training`"
            raise EngineUnavailableError(message, retry_after_seconds=10.0)
        return loaded

    def _keep(self, key: tuple[str, MovieFacts], made: RatingPrediction) -> None:
        self._known[key] = made
        if len(self._known) > _KEPT_RATINGS:
            try:
                self._known.popitem(last=False)
            except KeyError:  # other threads made room at the same time
                return


def _prediction(loaded: LoadedModel, film: MovieFacts) -> RatingPrediction:
    # arrays of one row are all overhead, so a model may take a single film as it is
    alone: Callable[[Film], tuple[float, float, float, bool]] | None
    alone = getattr(loaded.model, "predict_film", None)
    if alone is None:
        [found] = _predictions(loaded, [film])
        return found
    rating, low, high, in_range = alone(_film(film))
    return RatingPrediction(rating, low, high, loaded.model.level, in_range, loaded.entry.version)


def _predictions(loaded: LoadedModel, films: Sequence[MovieFacts]) -> list[RatingPrediction]:
    level, version = loaded.model.level, loaded.entry.version
    found = loaded.model.predict(_rows(films))
    columns = (found.rating, found.low, found.high, found.in_range)
    return [
        RatingPrediction(rating, low, high, level, in_range, version)
        for rating, low, high, in_range in zip(
            *(column.tolist() for column in columns), strict=True
        )
    ]


def _film(facts: MovieFacts) -> Film:
    year, runtime, votes = facts.start_year, facts.runtime_minutes, facts.num_votes
    return Film(
        facts.title,
        facts.original_title,
        nan if year is None else year,
        nan if runtime is None else runtime,
        nan if votes is None else votes,
        facts.genres,
        facts.is_adult,
    )


def _rows(films: Sequence[MovieFacts]) -> RatingRows:
    def numbers(values: Sequence[float | None]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.array([np.nan if value is None else value for value in values], np.float64)

    return RatingRows(
        title=[film.title for film in films],
        original_title=[film.original_title for film in films],
        start_year=numbers([film.start_year for film in films]),
        runtime_minutes=numbers([film.runtime_minutes for film in films]),
        num_votes=numbers([film.num_votes for film in films]),
        genres=[film.genres for film in films],
        adult=np.array([film.is_adult for film in films], np.bool_),
    )
