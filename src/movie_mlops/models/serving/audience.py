"""What one API process remembers of those it answers: exposures, the A/B test, the shadow."""

from dataclasses import dataclass

from movie_mlops.domain.experiments import Arm, Experiment
from movie_mlops.domain.recommendations import RecommendationList
from movie_mlops.events import EventLog
from movie_mlops.models.serving.experiment_store import ExperimentStore
from movie_mlops.models.serving.exposure_store import ExposureStore
from movie_mlops.models.serving.exposures import ExposureLog
from movie_mlops.models.serving.histories import Histories
from movie_mlops.models.serving.model_loader import ModelLoader
from movie_mlops.models.serving.outcomes import OutcomeJoiner
from movie_mlops.models.serving.recommender import RecommendationService
from movie_mlops.models.serving.shadow import Shadow
from movie_mlops.models.serving.trial import Trial


@dataclass(frozen=True, slots=True)
class Plan:
    """What is tested, and for which share of the lists the challenger works in the shadow."""

    experiment: Experiment | None = None
    shadow_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Audience:
    """The parts; `joiner` is None where nothing is tested."""

    store: ExposureStore
    tests: ExperimentStore
    exposures: ExposureLog
    trial: Trial
    shadow: Shadow
    joiner: OutcomeJoiner | None

    def show(self, request_id: str, made: RecommendationList, arm: Arm | None, k: int) -> None:
        """Note a list of up to `k` films that is being answered."""
        shown = self.trial.list_shown(made, arm)
        self.exposures.note(request_id, shown)
        if self.shadow.share:
            self.shadow.consider(request_id, shown, k)

    def start(self) -> None:
        """Begin to write, to join and to work in the shadow.

        Raises:
            EngineUnavailableError: the event log or the file of exposures does not answer.
        """
        self.exposures.start()
        self.shadow.start()
        if self.joiner is not None:
            self.joiner.start()

    def close(self) -> None:
        """Write what is noted and close the file."""
        if self.joiner is not None:
            self.joiner.stop()
        self.shadow.stop()
        self.exposures.close()
        self.store.close()


def make_audience(
    store: ExposureStore,
    plan: Plan,
    log: EventLog,
    loader: ModelLoader,
    recommender: RecommendationService,
    histories: Histories,
) -> Audience:
    """The parts, put together; nothing is started."""
    exposures = ExposureLog(store, plan.experiment)
    trial = Trial(plan.experiment, loader, histories)
    shadow = Shadow(plan.shadow_share, recommender, trial, exposures)
    joiner = None
    if plan.experiment is not None:
        joiner = OutcomeJoiner(plan.experiment, log, store, exposures)
    return Audience(store, ExperimentStore(store), exposures, trial, shadow, joiner)
