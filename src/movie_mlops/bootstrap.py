"""The composition root: every thing of the house is made here, once, from the settings."""

import fcntl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import polars as pl

from movie_mlops.automation.handlers import GROUP, LakeWriter
from movie_mlops.automation.loop import Loop, Told
from movie_mlops.automation.loop_store import LoopStore
from movie_mlops.automation.policies import Policy
from movie_mlops.automation.rollout import BY_HAND, Rollout, Stages
from movie_mlops.automation.staging import Evidence, Staging
from movie_mlops.data.crawlers import open_crawler
from movie_mlops.data.lake import Lake
from movie_mlops.data.processors.posters import draw_poster
from movie_mlops.data.versions import DataVersionManager
from movie_mlops.domain.errors import ConfigurationError, UnknownPipelineError
from movie_mlops.domain.versions import MOVIE_RECOMMENDER, NEURAL_RECOMMENDER
from movie_mlops.events import EventLog, open_event_log
from movie_mlops.events.schemas import (
    DRIFT_ALERTS,
    MODEL_LIFECYCLE,
    RECOMMENDATIONS,
    USER_EVENTS,
    BatchPredicted,
    LoopTransition,
    ModelDriftEvent,
    ModelPromoted,
    encode,
)
from movie_mlops.features.store import FeatureStore
from movie_mlops.models import algorithms
from movie_mlops.models.algorithms import BOUNDED_BY_MEMORY
from movie_mlops.models.manifest import Entry, TrialStage, read_manifest
from movie_mlops.models.registry import ModelRegistry
from movie_mlops.models.serving.ab_report import report_on
from movie_mlops.models.serving.audience import Audience, Plan, canary_name
from movie_mlops.models.serving.batch_lists import BatchLists
from movie_mlops.models.serving.catalogue import Catalogue, People
from movie_mlops.models.serving.experiment_store import ExperimentStore
from movie_mlops.models.serving.exposure_store import ExposureStore
from movie_mlops.models.serving.follower import HistoriesFollower
from movie_mlops.models.serving.histories import Histories
from movie_mlops.models.serving.model_loader import ModelLoader
from movie_mlops.models.serving.posters import Posters
from movie_mlops.models.serving.predictor import RatingService
from movie_mlops.models.serving.recommender import RecommendationService
from movie_mlops.models.serving.services import ApiServices
from movie_mlops.models.serving.shelves import Shelves
from movie_mlops.models.training.selection import Limits
from movie_mlops.models.training.tuning import read_tuned
from movie_mlops.monitoring.logs import AccessLog, RotatingFile, configure_logging
from movie_mlops.orchestration import InProcessRunner, open_runner
from movie_mlops.orchestration.base import Pipeline
from movie_mlops.orchestration.shapes import SHAPES
from movie_mlops.settings import (
    Settings,
    child_environment,
    turn_off_telemetry,
)

if TYPE_CHECKING:
    from movie_mlops.models.serving.feedback import Outcomes
    from movie_mlops.models.serving.online_quality import VersionQuality
    from movie_mlops.pipelines.drift_detection import DriftDetection
    from movie_mlops.pipelines.tuning import Tuning

NEURAL_ALGORITHMS = ("sasrec",)
RATING_ALGORITHM = "boosted"
MOST_REPLICAS = 64
_ROOT = Path(__file__).resolve().parents[2]


class Services:
    """One home's parts for pipelines, worker and command line; each is opened when first asked."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        home, path = settings.home, settings.path
        self.serving = path(settings.serving_url)
        self.lake = Lake(path(settings.lake_url))
        self.registry = ModelRegistry(
            tracking_uri(settings), home.absolute() / "var" / "mlflow-artifacts"
        )
        self.features = FeatureStore(home / "feast_repo", online_store_url(settings))
        self.loop_store = LoopStore(home / "var" / "loop.db")
        self.rollout = Rollout(
            self.serving,
            self.registry,
            self.loop_store,
            _stages(settings),
            self._publish_promotion,
            Told(self.loop_store, lambda: self.log),
        )
        self._outcomes: Outcomes | None = None
        self.work = home / "var" / "work"
        self.tuned = home / "var" / "tuned"

    @cached_property
    def log(self) -> EventLog:
        """The event log."""
        limit = self.settings.event_log_max_bytes
        return open_event_log(self.settings.events_url, self.settings.home, limit)

    @cached_property
    def runner(self) -> InProcessRunner:
        """What runs pipelines."""
        runs = self.settings.home / "var" / "runs"
        return open_runner(self.settings.runner_url, runs, child_environment(self.settings))

    @cached_property
    def snapshots(self) -> DataVersionManager:
        """Snapshots of this home's tables."""
        cache = self.settings.path(self.settings.snapshots_url)
        return DataVersionManager(self.lake.root, cache, self._replay_log)

    def lake_writer(self) -> LakeWriter:
        """The consumer that brings events into the lake."""
        return LakeWriter(self.log, self.lake)

    def loop(self) -> Loop:
        """The closed loop."""
        settings = self.settings
        tests = ExperimentStore(ExposureStore(exposures_path(settings), "loop"))
        evidence = Evidence(
            tests.shadow_lists, lambda version: report_on(tests, canary_name(version), active=True)
        )
        policy = Policy(
            cooldown=timedelta(hours=settings.retrain_cooldown_hours),
            attempts=settings.retrain_attempts,
            overload_percent=settings.overload_percent,
            scaling_cooldown=timedelta(minutes=settings.scaling_cooldown_minutes),
        )
        staging = Staging(self.rollout, evidence)
        return Loop(self.log, self.loop_store, self.runner, staging, policy)

    def resume_loop(self, model: str, actor: str = BY_HAND) -> bool:
        """Let drift set trainings of this model off again; whether the loop was stopped."""
        was_stopped = self.loop_store.resume(model)
        if was_stopped:
            self.loop_store.note(
                LoopTransition(
                    model, "loop", "stopped", "running", "resumed", actor, "", datetime.now(UTC)
                )
            )
            self.rollout.told()
        return was_stopped

    def pipeline(self, name: str) -> Pipeline:
        """The pipeline of this name with its ports handed in.

        Raises:
            UnknownPipelineError: no pipeline has this name.
        """
        if name not in SHAPES:
            message = f"no pipeline {name[:80]!r}; there are {', '.join(SHAPES)}"
            raise UnknownPipelineError(message)
        makers: dict[str, Callable[[], Pipeline]] = {
            "data_collection": self._data_collection,
            "feature_engineering": self._feature_engineering,
            "training": self._training,
            "neural_training": lambda: self._training(NEURAL_RECOMMENDER),
            "rating_training": self._rating_training,
            "drift_detection": lambda: self.drift_detection().pipeline(),
            "batch_prediction": self._batch_prediction,
            "rollout": self.rollout.pipeline,
        }
        return makers[name]()

    def tuning(self) -> "Tuning":
        """The search for hyperparameters."""
        from movie_mlops.pipelines.tuning import Tuning

        settings = self.settings
        return Tuning(
            lake=self.lake,
            snapshots=self.snapshots,
            registry=self.registry,
            folder=self.tuned,
            limits=self._limits(),
            fixed=self._memory_of,
            seed=settings.seed,
        )

    def drift_detection(self) -> "DriftDetection":
        """What compares the present with what the champion learnt.

        Raises:
            ConfigurationError: a watched feature that there is not.
        """
        from movie_mlops.pipelines.drift_detection import DriftDetection, Sensitivity
        from movie_mlops.pipelines.drift_sources import WATCHED

        settings = self.settings
        unknown = set(settings.drift_features) - set(WATCHED)
        if unknown:
            message = f"DRIFT_FEATURES: no {', '.join(sorted(unknown))}; there are {WATCHED}"
            raise ConfigurationError(message)
        return DriftDetection(
            lake=self.lake,
            snapshots=self.snapshots,
            registry=self.registry,
            serving=self.serving,
            exposures=exposures_path(settings),
            work=settings.home / "var" / "drift",
            figures=settings.home / "var" / "figures",
            sensitivity=Sensitivity(
                timedelta(hours=settings.drift_window_hours),
                settings.drift_false_alarm_rate,
                settings.drift_min_events,
                settings.drift_features,
                settings.seed,
            ),
            publish_event=self._publish_drift,
        )

    def online_quality(self) -> "list[VersionQuality]":
        """What viewers did with each version's lists; leaves the gauges for the next scrape."""
        from movie_mlops.models.serving.feedback import Outcomes
        from movie_mlops.models.serving.online_quality import gauges, online_quality
        from movie_mlops.monitoring.metrics import write_figures

        settings = self.settings
        store = ExposureStore(exposures_path(settings), "quality")
        self._outcomes = self._outcomes or Outcomes(self.log)
        try:
            minutes = settings.canary_attribution_minutes
            found = online_quality(store, self._outcomes, datetime.now(UTC), minutes)
        finally:
            store.close()
        write_figures(settings.home / "var" / "figures", "quality", gauges(found))
        return found

    def close(self) -> None:
        """Close what was opened."""
        for name in ("runner", "log"):
            if name in self.__dict__:
                getattr(self, name).close()

    def _data_collection(self) -> Pipeline:
        from movie_mlops.pipelines.data_collection import DataCollection

        settings = self.settings
        return DataCollection(
            lake=self.lake,
            open_crawler=lambda: open_crawler(settings),
            snapshots=self.snapshots,
            people=settings.sample_people,
            watches_per_person=settings.sample_watches_per_person,
            seed=settings.seed,
        ).pipeline()

    def _feature_engineering(self) -> Pipeline:
        from movie_mlops.pipelines.feature_engineering import FeatureEngineering

        return FeatureEngineering(self.lake, self.features).pipeline()

    def _training(self, model: str = MOVIE_RECOMMENDER) -> Pipeline:
        from movie_mlops.pipelines.training import Training

        settings, is_neural = self.settings, model == NEURAL_RECOMMENDER
        names = NEURAL_ALGORITHMS if is_neural else settings.candidate_algorithms
        return Training(
            lake=self.lake,
            snapshots=self.snapshots,
            registry=self.registry,
            serving=self.serving,
            work=self.work / "neural" if is_neural else self.work,
            model=model,
            candidates={
                name: read_tuned(self.tuned, name) | self._memory_of(name) for name in names
            },
            limits=self._limits(),
            history_length=settings.history_length,
            seed=settings.seed,
            bootstrap_samples=settings.promotion_samples,
        ).pipeline()

    def _batch_prediction(self) -> Pipeline:
        from movie_mlops.pipelines.batch_prediction import BatchPrediction

        work, length = self.work / "batch", self.settings.history_length
        return BatchPrediction(
            self.lake, self.serving, work, length, self._publish_batch
        ).pipeline()

    def _publish_batch(self, champion: Entry, users: int) -> None:
        event = BatchPredicted(
            MOVIE_RECOMMENDER, champion.version, champion.snapshot, users, datetime.now(UTC)
        )
        self.log.publish(RECOMMENDATIONS, [encode(event)])

    def _limits(self) -> Limits:
        settings = self.settings
        return Limits(settings.gate_latency_ms, settings.gate_memory_mb, settings.gate_bundle_mb)

    def _memory_of(self, algorithm: str) -> dict[str, Any]:
        """The bound of its arrays, for those that take one."""
        if algorithm in BOUNDED_BY_MEMORY:
            return {"max_memory_mb": self.settings.model_memory_mb}
        return {}

    def _rating_training(self) -> Pipeline:
        from movie_mlops.pipelines.rating_training import RatingTraining

        settings = self.settings
        return RatingTraining(
            lake=self.lake,
            snapshots=self.snapshots,
            registry=self.registry,
            serving=self.serving,
            work=self.work,
            algorithm=RATING_ALGORITHM,
            level=settings.conformal_level,
            seed=settings.seed,
            bootstrap_samples=settings.promotion_samples,
        ).pipeline()

    def _publish_promotion(self, model: str, version: str, reason: str) -> None:
        del reason
        served = read_manifest(self.serving)[model].champion
        event = ModelPromoted(
            model_name=model,
            version=version,
            alias="champion",
            algorithm=served.algorithm if served else "",
            snapshot=served.snapshot if served else "",
            timestamp=datetime.now(UTC),
        )
        self.log.publish(MODEL_LIFECYCLE, [encode(event)])

    def _publish_drift(self, event: ModelDriftEvent, event_id: str) -> None:
        # the same check again is a duplicate, whatever its numbers
        fingerprint = event_id.encode()[:64]
        self.log.publish(DRIFT_ALERTS, [encode(event, event_id, fingerprint)])

    def _replay_log(self) -> None:
        """After a restore: let the worker's group write later events into the lake again."""
        known = self.lake.event_positions(USER_EVENTS)
        places = self.log.end_positions([USER_EVENTS])
        positions = {place: known.get(place.partition, 0) for place in places}
        self.log.commit(GROUP, positions)
        self.log.seek(GROUP, positions)


def build_services(settings: Settings) -> Services:
    """The parts of the settings' home; nothing is opened yet."""
    turn_off_telemetry()
    return Services(settings)


def open_api_services(settings: Settings) -> ApiServices:
    """Everything that one API process serves from."""
    turn_off_telemetry()
    configure_logging()
    serving = settings.path(settings.serving_url)
    serving.mkdir(parents=True, exist_ok=True)
    lake = Lake(settings.path(settings.lake_url))
    log = open_event_log(settings.events_url, settings.home, settings.event_log_max_bytes)
    loader = ModelLoader(serving, algorithms.load)
    catalogue = Catalogue(lambda: read_if_there(lake, "movies"))
    histories = Histories(settings.history_length)
    group = f"api-{take_slot(settings.home / 'var' / 'slots')}"
    batch = BatchLists(loader, serving)
    recommender = RecommendationService(loader, histories, catalogue, batch)
    return ApiServices(
        log=log,
        catalogue=catalogue,
        people=People(lambda: read_if_there(lake, "people")),
        posters=Posters(draw_poster),
        loader=loader,
        histories=histories,
        follower=HistoriesFollower(histories, log, loader, serving, group),
        recommender=recommender,
        shelves=Shelves(recommender, histories, catalogue),
        ratings=RatingService(loader),
        audience=Audience(
            ExposureStore(exposures_path(settings), group),
            Plan(settings.running_experiment, settings.shadow_share),
            log,
            loader,
            recommender,
            histories,
        ),
        access_log=AccessLog(RotatingFile(settings.home / "var" / "logs" / f"{group}.jsonl")),
    )


def _stages(settings: Settings) -> Stages:
    return Stages(
        mode=settings.rollout_mode,
        shadow=TrialStage("shadow", settings.shadow_stage_share),
        canary=TrialStage(
            "canary",
            settings.canary_share,
            settings.canary_attribution_minutes,
            settings.canary_alpha,
        ),
        shadow_lists=settings.shadow_stage_lists,
        shadow_longest=timedelta(hours=settings.shadow_max_hours),
        canary_longest=timedelta(hours=settings.canary_max_hours),
    )


def exposures_path(settings: Settings) -> Path:
    """The file that says who was shown what."""
    return settings.home / "var" / "exposures.db"


def page_folder() -> Path:
    """Where the built page lies."""
    return _ROOT / "frontend" / "dist"


def read_if_there(lake: Lake, name: str) -> pl.DataFrame | None:
    """A table, or None before its first write."""
    return lake.read(name) if lake.exists(name) else None


_slots: list[IO[str]] = []  # held open: the kernel frees a slot when its process dies


def take_slot(folder: Path) -> int:
    """The first free replica number of this home, held until the process ends.

    Raises:
        ConfigurationError: all are taken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for slot in range(MOST_REPLICAS):
        stream = (folder / f"{slot}.lock").open("a")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.close()
            continue
        _slots.append(stream)
        return slot
    message = f"all {MOST_REPLICAS} replica slots of {folder.parent.parent} are taken"
    raise ConfigurationError(message)


def tracking_uri(settings: Settings) -> str:
    """MLflow's URI; the path of an SQLite file is made absolute."""
    url = settings.tracking_url
    if not url.startswith("sqlite:"):
        return url
    return f"sqlite:///{settings.path(url)}"


def online_store_url(settings: Settings) -> str:
    """Feast's online store as its repository sees it."""
    return f"sqlite:{settings.path(settings.online_store_url)}"
