"""The closed loop: drift to training, overload to scaling alert, every step told once."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from movie_mlops.automation.loop_store import LoopStore, Retraining
from movie_mlops.automation.policies import Policy, decide_retraining, is_overloaded
from movie_mlops.automation.staging import Staging
from movie_mlops.domain.errors import EngineUnavailableError, PipelineError
from movie_mlops.domain.versions import MOVIE_PREDICTOR, NEURAL_RECOMMENDER
from movie_mlops.events import EventLog
from movie_mlops.events.base import Record
from movie_mlops.events.consumer import Consumer, Handler
from movie_mlops.events.schemas import (
    DRIFT_ALERTS,
    MAX_TEXT,
    MODEL_LIFECYCLE,
    SYSTEM_HEALTH,
    LoopTransition,
    ModelDriftEvent,
    ScalingAlert,
    SystemHealthEvent,
    encode,
)
from movie_mlops.orchestration.base import PipelineRunner, run_id_of

GROUP = "automation"
ACTOR = "loop"
LOOK_SECONDS = 1.0
_PIPELINES = {MOVIE_PREDICTOR: "rating_training", NEURAL_RECOMMENDER: "neural_training"}
Figures = Mapping[str, Mapping[str, float]]
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Told:
    """Brings noted transitions into the event log, each once, whoever noted them."""

    store: LoopStore
    log: Callable[[], EventLog]

    def __call__(self) -> None:
        """Publish what is not published yet; what the log refuses now comes later."""
        noted = self.store.unpublished()
        try:
            for each in noted:
                self.log().publish(MODEL_LIFECYCLE, [encode(each.event, each.event_id)])
        except EngineUnavailableError as error:
            _LOG.warning("transitions wait to be told: %s", error)
            return
        self.store.mark_published(noted)


class Loop:
    """Consumer group `automation`, and a look at roll-outs and trainings every second."""

    def __init__(
        self,
        log: EventLog,
        store: LoopStore,
        runner: PipelineRunner,
        staging: Staging,
        policy: Policy,
        tell_figures: Callable[[Figures], None],
    ) -> None:
        self._log, self._store, self._runner = log, store, runner
        self._staging, self._policy, self._tell_figures = staging, policy, tell_figures
        self._figures: Figures = {}
        self._told = Told(store, lambda: log)
        self._alerted: dict[str, datetime] = {}
        handlers: dict[type, Handler] = {
            ModelDriftEvent: self.on_drift,
            SystemHealthEvent: self.on_health,
        }
        self._consumer = Consumer(log, GROUP, (DRIFT_ALERTS, SYSTEM_HEALTH), handlers)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._consumer.run, name="automation"),
            threading.Thread(target=self._run, name="roll-outs"),
        ]

    def start(self) -> None:
        """React from now on, until `stop`."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish what is being done and return."""
        self._stop.set()
        self._consumer.stop()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def run_once(self, now: datetime | None = None) -> None:
        """Handle the events that are there, then look at trainings and roll-outs once."""
        self._consumer.run_once()
        self.look(now or datetime.now(UTC))

    def on_drift(self, event: ModelDriftEvent, record: Record) -> None:
        """Train, page or let be; the same event twice leads to one training."""
        now, model = datetime.now(UTC), event.model_name
        cause = record.event_id
        past = self._store.retrainings(model)
        mine = next((each for each in past if each.cause == cause), None)
        if mine is not None:  # a kill, or a second delivery
            self._submit(mine)
            return
        if any(state.model_name == model for state in self._store.rollouts()):
            self._note(model, ("drift", "ignored"), "a roll-out is under way", cause)
            return
        decision = decide_retraining(
            event, past, self._store.stopped().get(model), self._policy, now
        )
        if decision.action == "ignore":
            self._note(model, ("drift", "ignored"), decision.reason, cause)
        elif decision.action == "page":
            self._store.stop(model, decision.reason, now)
            self._note(model, ("drift", "paged"), decision.reason, cause)
        else:
            run_id = run_id_of(self._pipeline_of(model), now, cause)
            retraining = Retraining(cause, model, event.drift_score, now, run_id, "running")
            self._store.add_retraining(retraining)
            self._note(model, ("drift", "training"), decision.reason, cause)
            self._submit(retraining)

    def on_health(self, event: SystemHealthEvent, record: Record) -> None:
        """Ask for scaling when a service is overloaded, at most once per cool-down."""
        if not is_overloaded(event, self._policy):
            return
        now, service = datetime.now(UTC), event.service_name
        latest = self._alerted.get(service)
        if latest is not None and now - latest < self._policy.scaling_cooldown:
            return
        if len(self._alerted) >= 1_000:
            self._alerted.clear()
        self._alerted[service] = now
        reason = f"CPU {event.cpu_usage:g} %, memory {event.memory_usage:g} %"
        alert = ScalingAlert(service, reason, event.timestamp)
        self._log.publish(SYSTEM_HEALTH, [encode(alert, f"scaling:{record.event_id}"[:64])])

    def look(self, now: datetime) -> None:
        """Note trainings that ended, move roll-outs, tell what is untold."""
        for each in self._store.retrainings():
            if each.state == "running":
                self._follow(each)
        self._staging.advance(now)
        self._told()
        figures: Figures = {
            "loop_stopped": dict.fromkeys(self._store.stopped(), 1.0),
            "loop_rollouts": dict(Counter(each.stage for each in self._store.rollouts())),
        }
        if figures != self._figures:
            self._tell_figures(figures)
            self._figures = figures

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self.look(datetime.now(UTC))
            except EngineUnavailableError as error:
                _LOG.warning("the loop waits: %s", error)
                self._stop.wait(error.retry_after_seconds)
            except Exception:  # noqa: BLE001 (the loop goes on whatever one model does)
                _LOG.exception("the loop could not look at its roll-outs")

    def _submit(self, retraining: Retraining) -> None:
        """Start its run unless it was; the run's id is the cause's own."""
        if retraining.state == "running":
            parameters = {"cause": retraining.cause}
            pipeline = self._pipeline_of(retraining.model_name)
            self._runner.submit(pipeline, parameters, retraining.run_id)

    def _follow(self, retraining: Retraining) -> None:
        try:
            run = self._runner.status(retraining.run_id)
        except PipelineError:  # killed before it was submitted
            self._submit(retraining)
            return
        if run.state == "running":
            return
        self._store.end_retraining(retraining.cause, run.state)
        note = str(run.output().get("note", "")) if run.state == "succeeded" else run.error
        move = ("training", "trained" if run.state == "succeeded" else "failed")
        self._note(retraining.model_name, move, note or run.run_id, retraining.cause)

    def _note(self, model: str, move: tuple[str, str], reason: str, cause: str) -> None:
        """Once per cause and state."""
        event = LoopTransition(
            model, "retraining", *move, reason[:MAX_TEXT], ACTOR, cause, datetime.now(UTC)
        )
        if self._store.note(event, f"{cause[:48]}:{move[1]}"):
            self._told()

    def _pipeline_of(self, model: str) -> str:
        return _PIPELINES.get(model, "training")
