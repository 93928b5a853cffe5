"""One home: its engines, its stores, and what it says into the log."""

import json
import os
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from movie_mlops.automation.handlers import GROUP, LakeWriter
from movie_mlops.automation.loop import GROUP as AUTOMATION
from movie_mlops.automation.loop import Told
from movie_mlops.automation.loop_store import open_loop_store
from movie_mlops.automation.rollout import Rollout, Stages
from movie_mlops.bootstrap.places import (
    erased_folder,
    find_store,
    online_store_url,
    secret,
    state_of,
    tracking_uri,
)
from movie_mlops.data.engine import TableEngine, open_table_engine
from movie_mlops.data.lake import Lake
from movie_mlops.data.versions import DataVersionManager
from movie_mlops.domain.versions import MOVIE_RECOMMENDER
from movie_mlops.events import EventLog, open_event_log
from movie_mlops.events.base import Place
from movie_mlops.events.erased import ErasedUsers
from movie_mlops.events.retention import trim_before
from movie_mlops.events.schemas import (
    DEAD_LETTERS,
    DRIFT_ALERTS,
    MODEL_LIFECYCLE,
    RECOMMENDATIONS,
    SYSTEM_HEALTH,
    USER_EVENTS,
    BatchPredicted,
    ModelDriftEvent,
    ModelPromoted,
    encode,
)
from movie_mlops.features.store import FeatureStore
from movie_mlops.models.bundle import CARD
from movie_mlops.models.manifest import Entry, TrialStage, read_manifest
from movie_mlops.models.registry import ModelRegistry
from movie_mlops.models.serving.follower import HISTORIES
from movie_mlops.orchestration import open_local_runner, open_runner
from movie_mlops.orchestration.base import PipelineRunner
from movie_mlops.settings import (
    Settings,
    child_environment,
)

if TYPE_CHECKING:
    from movie_mlops.orchestration import InProcessRunner


class Home:
    """Each engine is opened when it is first asked for."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        home, path = settings.home, settings.path
        self.serving = path(settings.serving_url)
        self.erased = ErasedUsers(erased_folder(settings))
        self.lake = Lake(
            settings.lake_folder,
            self.erased.knows,
            lambda: self.table_engine,
            find_store(settings),
        )
        self.registry = ModelRegistry(
            tracking_uri(settings), home.absolute() / "var" / "mlflow-artifacts"
        )
        self.features = FeatureStore(
            home / "feast_repo",
            online_store_url(settings),
            secret(settings.online_store_password),
            settings.feature_server_url,
            os.path.relpath(self.lake.features, home.absolute() / "feast_repo"),
        )
        self.loop_store = open_loop_store(state_of(settings))
        self.rollout = Rollout(
            self.serving,
            self.registry,
            self.loop_store,
            _stages(settings),
            self.publish_promotion,
            Told(self.loop_store, lambda: self.log),
        )
        self.work = home / "var" / "work"
        self.tuned = home / "var" / "tuned"

    @cached_property
    def table_engine(self) -> TableEngine:
        """What computes tables; Spark starts with the first of them."""
        return open_table_engine(self.settings.table_engine_url, self.lake.spill)

    @cached_property
    def log(self) -> EventLog:
        """The event log."""
        limit = self.settings.event_log_max_bytes
        return open_event_log(self.settings.events_url, self.settings.home, limit)

    @cached_property
    def runner(self) -> PipelineRunner:
        """What runs pipelines, for this home."""
        settings = self.settings
        password = secret(settings.runner_password)
        return open_runner(
            settings.runner_url, self.local_runner, settings.runner_username, password
        )

    @cached_property
    def local_runner(self) -> "InProcessRunner":
        """What executes steps in this process, whatever runs pipelines."""
        runs = self.settings.home / "var" / "runs"
        return open_local_runner(runs, child_environment(self.settings))

    @cached_property
    def snapshots(self) -> DataVersionManager:
        """Snapshots of this home's tables."""
        cache = self.settings.path(self.settings.snapshots_url)
        return DataVersionManager(self.lake.root, cache, self._replay_log, self.lake)

    def lake_writer(self) -> LakeWriter:
        """The consumer that brings events into the lake."""
        return LakeWriter(self.log, self.lake, self.erased)

    def trim_log(self, now: datetime) -> None:
        """Forget old events; none that the lake or a replica that starts would miss.

        Raises:
            EngineUnavailableError: the log does not answer.
        """
        before = now - timedelta(days=self.settings.event_retention_days)
        in_lake = self.log.committed(GROUP, [USER_EVENTS])
        in_histories = self._positions_of_histories()
        needed = {
            place: min(offset, in_histories.get(place, 0)) for place, offset in in_lake.items()
        }
        trim_before(self.log, USER_EVENTS, before, needed)
        for topic in (DRIFT_ALERTS, SYSTEM_HEALTH):
            trim_before(self.log, topic, before, self.log.committed(AUTOMATION, [topic]))
        for topic in (RECOMMENDATIONS, MODEL_LIFECYCLE, DEAD_LETTERS):
            trim_before(self.log, topic, before, {})

    def _positions_of_histories(self) -> dict[Place, int]:
        """Where a replica begins that starts now."""
        served = read_manifest(self.serving).get(HISTORIES)
        if served is None or served.champion is None:
            return {}
        card = json.loads((self.serving / served.champion.path / CARD).read_text())
        return {
            Place(topic, int(partition)): offset
            for text, offset in card["positions"].items()
            for topic, _, partition in (text.rpartition(":"),)
        }

    def close(self) -> None:
        """Close what was opened."""
        self.features.close()
        for name in ("runner", "log", "table_engine"):
            if name in self.__dict__:
                getattr(self, name).close()

    def publish_promotion(self, model: str, version: str, reason: str) -> None:
        """Tell everybody which version is champion now."""
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

    def publish_drift(self, event: ModelDriftEvent, event_id: str) -> None:
        """Set the loop off."""
        # the same check again is a duplicate, whatever its numbers
        fingerprint = event_id.encode()[:64]
        self.log.publish(DRIFT_ALERTS, [encode(event, event_id, fingerprint)])

    def publish_batch(self, champion: Entry, users: int) -> None:
        """Tell that there are new lists for all users."""
        event = BatchPredicted(
            MOVIE_RECOMMENDER, champion.version, champion.snapshot, users, datetime.now(UTC)
        )
        self.log.publish(RECOMMENDATIONS, [encode(event)])

    def _replay_log(self) -> None:
        """After a restore: let the worker's group write later events into the lake again."""
        known = self.lake.event_positions(USER_EVENTS)
        places = self.log.end_positions([USER_EVENTS])
        positions = {place: known.get(place.partition, 0) for place in places}
        self.log.commit(GROUP, positions)
        self.log.seek(GROUP, positions)


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
