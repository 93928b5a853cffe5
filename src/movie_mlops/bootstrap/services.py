"""Everything that pipelines, worker and command line work with."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import polars as pl

from movie_mlops.automation.guard import Guard
from movie_mlops.automation.loop import Loop
from movie_mlops.automation.policies import Policy
from movie_mlops.automation.rollout import BY_HAND
from movie_mlops.automation.staging import Evidence, Staging
from movie_mlops.bootstrap import recipes
from movie_mlops.bootstrap.home import Home
from movie_mlops.bootstrap.places import open_exposures
from movie_mlops.data.tables import MOVIES
from movie_mlops.events.schemas import (
    LoopTransition,
)
from movie_mlops.models.serving.ab_report import report_on
from movie_mlops.models.serving.audience import canary_name
from movie_mlops.models.serving.experiment_store import ExperimentStore
from movie_mlops.monitoring.metrics import write_figures
from movie_mlops.orchestration.base import Pipeline
from movie_mlops.settings import (
    Settings,
    turn_off_telemetry,
)

if TYPE_CHECKING:
    from movie_mlops.models.serving.feedback import Outcomes
    from movie_mlops.models.serving.online_quality import VersionQuality
    from movie_mlops.pipelines.drift_detection import DriftDetection
    from movie_mlops.pipelines.tuning import Tuning


class Services(Home):
    """One home's parts and what is made of them."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._outcomes: Outcomes | None = None
        self.guard = Guard(self.rollout, timedelta(hours=settings.rollback_watch_hours))

    def pipeline(self, name: str) -> Pipeline:
        """See `recipes.pipeline`."""
        return recipes.pipeline(self, name)

    def drift_detection(self) -> "DriftDetection":
        """See `recipes.drift_detection`."""
        return recipes.drift_detection(self)

    def tuning(self) -> "Tuning":
        """See `recipes.tuning`."""
        return recipes.tuning(self)

    def loop(self) -> Loop:
        """The closed loop."""
        settings = self.settings
        tests = ExperimentStore(open_exposures(settings, "loop"))
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
        figures = partial(write_figures, settings.home / "var" / "figures", "loop")
        return Loop(self.log, self.loop_store, self.runner, staging, policy, figures)

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

    def online_quality(self) -> "list[VersionQuality]":
        """What viewers did with each version's lists; leaves the gauges for the next scrape."""
        from movie_mlops.models.serving.feedback import Outcomes
        from movie_mlops.models.serving.online_quality import gauges, online_quality

        settings = self.settings
        store = open_exposures(settings, "quality")
        self._outcomes = self._outcomes or Outcomes(self.log)
        try:
            minutes = settings.canary_attribution_minutes
            found = online_quality(store, self._outcomes, datetime.now(UTC), minutes)
        finally:
            store.close()
        figures = gauges(found, self._catalogue_size())
        write_figures(settings.home / "var" / "figures", "quality", figures)
        return found

    def _catalogue_size(self) -> int:
        if not self.lake.exists(MOVIES.name):
            return 0
        rows = pl.scan_parquet(self.lake.path(MOVIES.name), glob=False).select(pl.len())
        return int(rows.collect().item())


def build_services(settings: Settings) -> Services:
    """The parts of the settings' home; nothing is opened yet."""
    turn_off_telemetry()
    return Services(settings)
