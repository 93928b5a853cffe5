"""Roll-out: a challenger that passed its gate becomes champion, at once or by stages."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Literal

from movie_mlops.automation.loop_store import LoopStore, RolloutState
from movie_mlops.domain.errors import ModelVersionNotFoundError
from movie_mlops.domain.versions import (
    MOVIE_PREDICTOR,
    MOVIE_RECOMMENDER,
    NEURAL_RECOMMENDER,
    Alias,
)
from movie_mlops.events.schemas import MAX_TEXT, LoopTransition
from movie_mlops.models.bundle import CARD, file_sha256, load_bundle
from movie_mlops.models.manifest import (
    Entry,
    TrialStage,
    forget_unserved,
    let_in,
    point,
    read_manifest,
    roll_back,
    withdraw,
)
from movie_mlops.models.registry import ModelRegistry
from movie_mlops.models.serving.follower import HISTORIES
from movie_mlops.orchestration.base import Json, Pipeline, Report

ACTOR = "rollout"
BY_HAND = "operator"
ARCHIVED = "archived"
STAGED_MODELS = (MOVIE_RECOMMENDER,)
"""Models whose challengers can be shown to some viewers."""


@dataclass(frozen=True, slots=True)
class Stages:
    """How a challenger is let in; `mode` immediate: champion right after its gate."""

    mode: Literal["immediate", "staged"]
    shadow: TrialStage
    canary: TrialStage
    shadow_lists: int
    shadow_longest: timedelta
    canary_longest: timedelta


@dataclass(frozen=True, slots=True)
class Rollout:
    """Moves aliases; the manifest first, because serving follows it, then the registry.

    `promoted` is told model, version and reason after each change of a champion, `told` each
    transition; both are in the event log when they return, or will be.
    """

    serving: Path
    registry: ModelRegistry
    store: LoopStore
    stages: Stages
    promoted: Callable[[str, str, str], None]
    told: Callable[[], None]

    def pipeline(self) -> Pipeline:
        """One step per registered model."""
        steps = {
            "roll_out_recommender": partial(self._step, MOVIE_RECOMMENDER),
            "roll_out_predictor": partial(self._step, MOVIE_PREDICTOR),
            "roll_out_neural_recommender": partial(self._step, NEURAL_RECOMMENDER),
        }
        return Pipeline("rollout", steps)

    def promote(
        self,
        model: str,
        version: str,
        reason: str = "promoted by hand",
        actor: str = BY_HAND,
        cause: str = "",
    ) -> None:
        """Make a version whose bundle lies in the serving folder champion.

        Raises:
            ModelVersionNotFoundError: there is no such bundle.
            ArtifactCorruptError: its bundle is damaged.
        """
        path = f"{model}/{version}"
        if not version.isdecimal() or not (self.serving / path / CARD).exists():
            message = f"{model} has no bundle of version {version[:20]!r} in {self.serving}"
            raise ModelVersionNotFoundError(message)
        sha = file_sha256(self.serving / path / CARD)
        _, card = load_bundle(self.serving / path, sha)
        entry = Entry(version, path, sha, card["snapshot"], card["algorithm"])
        served = read_manifest(self.serving).get(model)
        is_new = served is None or served.champion != entry
        before = served.trial.stage if served is not None and served.trial else "challenger"
        if is_new:  # again is no change: nothing to go back to
            point(self.serving, model, Alias.CHAMPION, entry)
        self._mirror(model)
        self.promoted(model, version, reason)
        if is_new:
            once = f"{model}:{version}:champion" if actor == ACTOR else None
            self.note(model, version, (before, "champion"), reason, cause, actor, once)

    def roll_back(self, model: str, reason: str = "rolled back", actor: str = BY_HAND) -> str:
        """Put the previous champion back; return its version.

        Raises:
            ModelVersionNotFoundError: there is no previous champion.
        """
        served = read_manifest(self.serving).get(model)
        before = served.champion if served is not None else None
        champion = roll_back(self.serving, model).champion
        assert champion is not None  # noqa: S101 (roll_back raises otherwise)
        self._mirror(model)
        self.promoted(model, champion.version, reason)
        version = before.version if before is not None else ""
        self.note(model, version, ("champion", "rolled back"), reason, "", actor)
        return champion.version

    def enter(self, state: RolloutState, trial: TrialStage, reason: str, before: str) -> None:
        """Let the challenger into a stage.

        Raises:
            ModelVersionNotFoundError: the challenger is another one by now.
        """
        let_in(self.serving, state.model_name, state.version, trial)
        self.note_once(state, before, reason)
        self.store.put_rollout(state)

    def archive(self, state: RolloutState, reason: str) -> None:
        """Let the challenger out again: its champion stays."""
        if state.stage != ARCHIVED:
            out = replace(state, stage=ARCHIVED)
            self.note_once(out, state.stage, reason)
            self.store.put_rollout(out)  # after a kill this goes on from here
        with suppress(ModelVersionNotFoundError):  # another one took its place
            withdraw(self.serving, state.model_name, state.version)
        self._mirror(state.model_name)
        self.store.drop_rollout(state.model_name)

    def note_once(self, state: RolloutState, before: str, reason: str) -> None:
        """Note that a version has come to `state.stage`, which it does once."""
        event_id = f"{state.model_name}:{state.version}:{state.stage}"
        move = (before, state.stage)
        self.note(state.model_name, state.version, move, reason, state.cause, ACTOR, event_id)

    def note(  # noqa: PLR0913 (the columns of the audit trail)
        self,
        model: str,
        version: str,
        move: tuple[str, str],
        reason: str,
        cause: str,
        actor: str,
        event_id: str | None = None,
    ) -> None:
        """Add a transition to the audit trail, and tell it."""
        event = LoopTransition(
            model, f"version {version}", *move, reason[:MAX_TEXT], actor, cause, datetime.now(UTC)
        )
        if self.store.note(event, event_id):
            self.told()

    def _step(self, model: str, inputs: Json, report: Report) -> Json:
        """Let the challenger in when its gate passed; otherwise say why it stays out."""
        report(f"rolling out {model}", 0, None)
        for name in (model, HISTORIES):
            forget_unserved(self.serving, name)
        served = read_manifest(self.serving).get(model)
        if served is None or served.challenger is None:
            if served is not None:
                self._mirror(model)  # a promotion may have been killed before the registry knew
            return {"note": f"{model}: no challenger"}
        challenger, against = served.challenger, served.champion
        version = challenger.version
        _, card = load_bundle(self.serving / challenger.path, challenger.card_sha256)
        verdict, name = card["gate"], f"{model} v{version}"
        cause = str(inputs.get("cause", ""))
        if not verdict["passed"]:
            refused = self._state(model, challenger, against, "refused", cause)
            self.note_once(refused, "challenger", verdict["reason"])
            return {"note": f"{name} refused: {verdict['reason']}"}
        if self.stages.mode == "immediate" or model not in STAGED_MODELS or against is None:
            self.promote(model, version, verdict["reason"], ACTOR, cause)
            return {"note": f"{name} is champion: {verdict['reason']}"}
        if version not in {state.version for state in self.store.rollouts()}:
            state = self._state(model, challenger, against, "shadow", cause)
            self.enter(state, self.stages.shadow, verdict["reason"], "challenger")
        return {"note": f"{name} works in the shadow: {verdict['reason']}"}

    def _state(
        self, model: str, challenger: Entry, against: Entry | None, stage: str, cause: str
    ) -> RolloutState:
        rival = against.version if against is not None else ""
        return RolloutState(model, challenger.version, rival, stage, datetime.now(UTC), cause)

    def _mirror(self, model: str) -> None:
        """Let the registry's aliases say what the manifest says, also when two promote at once."""
        served = None
        while served != (served := read_manifest(self.serving)[model]):
            for alias, entry in (
                (Alias.CHAMPION, served.champion),
                (Alias.CHALLENGER, served.challenger),
            ):
                if entry is None:
                    self.registry.remove_alias(model, alias)
                else:
                    self.registry.set_alias(model, alias, entry.version)
