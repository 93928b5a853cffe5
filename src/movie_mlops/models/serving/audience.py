"""What one API process remembers of those it answers: exposures, the A/B test, the shadow."""

import logging
from dataclasses import dataclass

from movie_mlops.domain.errors import EngineUnavailableError
from movie_mlops.domain.experiments import Arm, Experiment
from movie_mlops.domain.recommendations import RecommendationList
from movie_mlops.domain.versions import MOVIE_RECOMMENDER, Alias
from movie_mlops.events import EventLog
from movie_mlops.models.manifest import Served
from movie_mlops.models.serving.experiment_store import ExperimentStore
from movie_mlops.models.serving.exposure_store import ExposureStore
from movie_mlops.models.serving.exposures import ExposureLog
from movie_mlops.models.serving.histories import Histories
from movie_mlops.models.serving.model_loader import ModelLoader
from movie_mlops.models.serving.outcomes import OutcomeJoiner
from movie_mlops.models.serving.recommender import RecommendationService
from movie_mlops.models.serving.shadow import Shadow
from movie_mlops.models.serving.trial import Trial

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is tested, and for which share of the lists the challenger works in the shadow."""

    experiment: Experiment | None = None
    shadow_share: float = 0.0


class Audience:
    """The parts, put together; nothing is started.

    The configured plan holds when there is one, else that of the roll-out, which stands in the
    manifest and changes while this process runs.
    """

    def __init__(
        self,
        store: ExposureStore,
        plan: Plan,
        log: EventLog,
        loader: ModelLoader,
        recommender: RecommendationService,
        histories: Histories,
    ) -> None:
        self.store, self._configured, self._log, self._loader = store, plan, log, loader
        self.tests = ExperimentStore(store)
        self.exposures = ExposureLog(store)
        self.trial = Trial(None, loader, histories)
        self.shadow = Shadow(recommender, self.trial, self.exposures)
        self._plan = Plan()
        self._joiner: OutcomeJoiner | None = None

    def show(self, request_id: str, made: RecommendationList, arm: Arm | None, k: int) -> None:
        """Note a list of up to `k` films that is being answered."""
        shown = self.trial.list_shown(made, arm)
        self.exposures.note(request_id, shown)
        if self.shadow.share:
            self.shadow.consider(request_id, shown, k)

    def start(self) -> None:
        """Begin to write, to join and to work in the shadow; follow the manifest from now on.

        Raises:
            EngineUnavailableError: the event log does not answer.
        """
        self.exposures.start()
        self.shadow.start()
        self._change(self._wanted())
        self._loader.subscribe(self._follow)

    def close(self) -> None:
        """Write what is noted and close the store."""
        self._stop_joining()
        self.shadow.stop()
        self.exposures.close()
        self.store.close()

    def _wanted(self) -> Plan:
        if self._configured != Plan():
            return self._configured
        return plan_of(self._loader.served(MOVIE_RECOMMENDER))

    def _follow(self) -> None:
        try:
            self._change(self._wanted())
        except EngineUnavailableError as error:
            # the plan stays as it was; the next change of the manifest, or a restart, tries again
            _LOG.error("the roll-out's plan could not be taken over: %s", error)

    def _change(self, plan: Plan) -> None:
        if plan == self._plan:
            return
        self._stop_joining()
        self.exposures.experiment = None  # until the joiner has made the test known
        if plan.experiment is not None:
            self._joiner = OutcomeJoiner(plan.experiment, self._log, self.store, self.exposures)
            self._joiner.start()
        self.trial.test(plan.experiment)
        self.shadow.share = plan.shadow_share
        self._plan = plan

    def _stop_joining(self) -> None:
        if self._joiner is not None:
            self._joiner.stop()
            self._joiner = None


def plan_of(served: Served) -> Plan:
    """The plan of a roll-out as the manifest has it."""
    trial, challenger = served.trial, served.challenger
    if trial is None or challenger is None or served.champion is None:
        return Plan()
    if trial.stage == "shadow":
        return Plan(shadow_share=trial.share)
    arms = (
        Arm("champion", Alias.CHAMPION, 1 - trial.share),
        Arm("canary", Alias.CHALLENGER, trial.share),
    )
    name = canary_name(challenger.version)
    return Plan(Experiment(name, arms, trial.attribution_minutes, trial.alpha))


def canary_name(version: str) -> str:
    """The A/B test in which this version is the canary."""
    return f"canary-{MOVIE_RECOMMENDER}-{version}"
