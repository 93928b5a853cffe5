"""The guide's names that need a home: made with the settings of this environment."""

from pathlib import Path
from typing import Any

import polars as pl

from movie_mlops.bootstrap import build_services, open_exposures
from movie_mlops.data.crawlers import TMDBAccess
from movie_mlops.data.crawlers import TMDBCrawler as _TMDBCrawler
from movie_mlops.domain.errors import ConfigurationError
from movie_mlops.events import EventLog
from movie_mlops.events.messages import MovieEventConsumer as _MovieEventConsumer
from movie_mlops.events.messages import MovieEventProducer as _MovieEventProducer
from movie_mlops.models.algorithms.numpy_mlp import FEATURES, WatchLogDataset, split_watch_log
from movie_mlops.models.registry import ModelRegistry
from movie_mlops.models.serving.ab_testing import ABTestManager as _ABTestManager
from movie_mlops.settings import field_key, load_settings


class TMDBCrawler(_TMDBCrawler):
    """The guide's class: key and address come from the settings."""

    def __init__(
        self,
        region: str = "KR",
        language: str = "ko-KR",
        image_language: str = "ko",
        request_interval_seconds: float = 0.4,
    ) -> None:
        settings = load_settings()
        if settings.tmdb_api_key is None:
            message = f"{field_key('tmdb_api_key')} is not set; `.env.template` says where it goes"
            raise ConfigurationError(message)
        key = settings.tmdb_api_key.get_secret_value()
        access = TMDBAccess(key, settings.tmdb_base_url, settings.tmdb_pages)
        super().__init__(region, language, image_language, request_interval_seconds, access=access)


class ABTestManager(_ABTestManager):
    """The guide's class, on the exposures of this environment's home."""

    def __init__(
        self, name: str = "ab-test", *, attribution_minutes: float = 60.0, alpha: float = 0.05
    ) -> None:
        store = open_exposures(load_settings(), "ab-test-manager")
        super().__init__(store, name, attribution_minutes=attribution_minutes, alpha=alpha)


class MovieEventProducer(_MovieEventProducer):
    """The guide's class, on the event log of this environment's home."""

    def __init__(self, log: EventLog | None = None) -> None:
        super().__init__(log or build_services(load_settings()).log)


class MovieEventConsumer(_MovieEventConsumer):
    """The guide's class, on the event log of this environment's home."""

    def __init__(self, group: str = "movie-events", **options: Any) -> None:
        super().__init__(build_services(load_settings()).log, group, **options)


def get_model_registry() -> ModelRegistry:
    """The registry of this environment's home."""
    return build_services(load_settings()).registry


class SimpleModelRegistry(ModelRegistry):
    """The registry on a folder of its own."""

    def __init__(self, base_path: str | Path) -> None:
        folder = Path(base_path).absolute()
        super().__init__(f"sqlite:///{folder / 'mlflow.db'}", folder / "artifacts")


def get_datasets() -> tuple[WatchLogDataset, WatchLogDataset, WatchLogDataset]:
    """Training, validation and test set of this home's watch log.

    Raises:
        TrainingDataError: the watch log is too short.
    """
    log = build_services(load_settings()).lake.read("watch_log")
    features: Any = log.select(FEATURES).cast(pl.Float64).to_numpy()
    return split_watch_log(features, log["content_id"].to_numpy())


def get_data_loaders(
    batch_size: int = 1_024, negatives: int = 4, seed: int = 42
) -> tuple[Any, Any]:
    """Training and validation batches (user_ids, movie_ids, labels) of this home's interactions.

    Raises:
        ConfigurationError: PyTorch is not installed.
    """
    from movie_mlops.features.engineering.interaction_features import (  # noqa: PLC0415
        all_interactions,
    )
    from movie_mlops.models.algorithms.neural_cf import data_loaders  # noqa: PLC0415 (PyTorch)
    from movie_mlops.models.training.histories import build_histories  # noqa: PLC0415

    lake = build_services(load_settings()).lake
    movie_ids = lake.read("movies")["movie_id"].to_numpy()
    histories = build_histories(all_interactions(lake), movie_ids)
    return data_loaders(histories, batch_size, negatives, seed)
