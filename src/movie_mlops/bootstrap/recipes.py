"""Pipelines with their ports handed in."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from movie_mlops.bootstrap.home import Home
from movie_mlops.bootstrap.places import (
    open_exposures,
)
from movie_mlops.data.crawlers import open_crawler
from movie_mlops.domain.errors import ConfigurationError, UnknownPipelineError
from movie_mlops.domain.versions import MOVIE_RECOMMENDER, NEURAL_RECOMMENDER
from movie_mlops.models.algorithms import BOUNDED_BY_MEMORY, create
from movie_mlops.models.training.selection import Limits
from movie_mlops.models.training.tuning import read_tuned
from movie_mlops.orchestration.base import Pipeline
from movie_mlops.orchestration.shapes import SHAPES

if TYPE_CHECKING:
    from movie_mlops.pipelines.drift_detection import DriftDetection
    from movie_mlops.pipelines.tuning import Tuning

NEURAL_ALGORITHMS = ("sasrec",)
RATING_ALGORITHM = "boosted"


def pipeline(home: Home, name: str) -> Pipeline:
    """The pipeline of this name with its ports handed in.

    Raises:
        UnknownPipelineError: no pipeline has this name.
    """
    if name not in SHAPES:
        message = f"no pipeline {name[:80]!r}; there are {', '.join(SHAPES)}"
        raise UnknownPipelineError(message)
    makers: dict[str, Callable[[], Pipeline]] = {
        "data_collection": lambda: _data_collection(home),
        "feature_engineering": lambda: _feature_engineering(home),
        "training": lambda: _training(home),
        "neural_training": lambda: _training(home, NEURAL_RECOMMENDER),
        "rating_training": lambda: _rating_training(home),
        "drift_detection": lambda: drift_detection(home).pipeline(),
        "batch_prediction": lambda: _batch_prediction(home),
        "rollout": home.rollout.pipeline,
    }
    return makers[name]()


def _data_collection(home: Home) -> Pipeline:
    from movie_mlops.pipelines.data_collection import DataCollection

    settings = home.settings
    return DataCollection(
        lake=home.lake,
        open_crawler=lambda: open_crawler(settings),
        snapshots=home.snapshots,
        people=settings.sample_people,
        watches_per_person=settings.sample_watches_per_person,
        seed=settings.seed,
    ).pipeline()


def _feature_engineering(home: Home) -> Pipeline:
    from movie_mlops.pipelines.feature_engineering import FeatureEngineering

    return FeatureEngineering(home.lake, home.features, home.table_engine).pipeline()


def _training(home: Home, model: str = MOVIE_RECOMMENDER) -> Pipeline:
    from movie_mlops.pipelines.training import Training

    settings, is_neural = home.settings, model == NEURAL_RECOMMENDER
    names = NEURAL_ALGORITHMS if is_neural else settings.candidate_algorithms
    return Training(
        lake=home.lake,
        snapshots=home.snapshots,
        registry=home.registry,
        serving=home.serving,
        work=home.work / "neural" if is_neural else home.work,
        model=model,
        candidates={name: read_tuned(home.tuned, name) | _memory_of(home, name) for name in names},
        limits=_limits(home),
        history_length=settings.history_length,
        seed=settings.seed,
        bootstrap_samples=settings.promotion_samples,
        create=_creator(home),
    ).pipeline()


def _rating_training(home: Home) -> Pipeline:
    from movie_mlops.pipelines.rating_training import RatingTraining

    settings = home.settings
    return RatingTraining(
        lake=home.lake,
        snapshots=home.snapshots,
        registry=home.registry,
        serving=home.serving,
        work=home.work,
        algorithm=RATING_ALGORITHM,
        level=settings.conformal_level,
        seed=settings.seed,
        bootstrap_samples=settings.promotion_samples,
    ).pipeline()


def _batch_prediction(home: Home) -> Pipeline:
    from movie_mlops.pipelines.batch_prediction import BatchPrediction

    work, length = home.work / "batch", home.settings.history_length
    return BatchPrediction(home.lake, home.serving, work, length, home.publish_batch).pipeline()


def drift_detection(home: Home) -> "DriftDetection":
    """What compares the present with what the champion learnt.

    Raises:
        ConfigurationError: a watched feature that there is not.
    """
    from movie_mlops.pipelines.drift_detection import DriftDetection, Sensitivity
    from movie_mlops.pipelines.drift_sources import WATCHED

    settings = home.settings
    unknown = set(settings.drift_features) - set(WATCHED)
    if unknown:
        message = f"DRIFT_FEATURES: no {', '.join(sorted(unknown))}; there are {WATCHED}"
        raise ConfigurationError(message)
    return DriftDetection(
        lake=home.lake,
        snapshots=home.snapshots,
        registry=home.registry,
        serving=home.serving,
        open_exposures=partial(open_exposures, settings, "drift"),
        work=settings.home / "var" / "drift",
        figures=settings.home / "var" / "figures",
        sensitivity=Sensitivity(
            timedelta(hours=settings.drift_window_hours),
            settings.drift_false_alarm_rate,
            settings.drift_min_events,
            settings.drift_features,
            settings.seed,
        ),
        publish_event=home.publish_drift,
    )


def tuning(home: Home) -> "Tuning":
    """The search for hyperparameters."""
    from movie_mlops.pipelines.tuning import Tuning

    settings = home.settings
    return Tuning(
        lake=home.lake,
        snapshots=home.snapshots,
        registry=home.registry,
        folder=home.tuned,
        limits=_limits(home),
        fixed=partial(_memory_of, home),
        seed=settings.seed,
    )


def _creator(home: Home) -> Callable[..., Any]:
    """What makes algorithms: those that the table engine can fit are fitted there."""
    if not home.settings.table_engine_url.startswith("spark:"):
        return create
    from movie_mlops.models.training.spark_als import create_on

    return partial(create_on, home.table_engine)


def _limits(home: Home) -> Limits:
    settings = home.settings
    return Limits(settings.gate_latency_ms, settings.gate_memory_mb, settings.gate_bundle_mb)


def _memory_of(home: Home, algorithm: str) -> dict[str, Any]:
    """The bound of its arrays, for those that take one."""
    if algorithm in BOUNDED_BY_MEMORY:
        return {"max_memory_mb": home.settings.model_memory_mb}
    return {}
