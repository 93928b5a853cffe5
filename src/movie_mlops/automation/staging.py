"""Moves challengers from shadow to canary to champion by evidence, or out when time is up."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from movie_mlops.automation.loop_store import RolloutState
from movie_mlops.automation.rollout import ACTOR, ARCHIVED, Rollout
from movie_mlops.domain.errors import ModelVersionNotFoundError
from movie_mlops.models.manifest import read_manifest
from movie_mlops.models.serving.ab_report import ExperimentReport

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What serving knows of a version: lists made unseen, and its canary's A/B test."""

    shadow_lists: Callable[[str], int]
    canary: Callable[[str], ExperimentReport | None]


@dataclass(frozen=True, slots=True)
class Staging:
    """`advance` is called again and again; each call looks at every roll-out under way.

    A move writes the manifest, then the record, then the audit trail. After a kill in between the
    record is behind the manifest, and the move is made again, which changes nothing twice.
    """

    rollout: Rollout
    evidence: Evidence

    def advance(self, now: datetime) -> None:
        """Move what has its evidence or no time left.

        Raises:
            EngineUnavailableError: a store does not answer; call again.
        """
        for state in self.rollout.store.rollouts():
            try:
                self._advance(state, now)
            except ModelVersionNotFoundError as error:
                _LOG.info("the roll-out changed under way: %s", error)  # the next look sees how

    def _advance(self, state: RolloutState, now: datetime) -> None:
        served = read_manifest(self.rollout.serving).get(state.model_name)
        champion = served.champion.version if served and served.champion else ""
        challenger = served.challenger.version if served and served.challenger else ""
        if state.stage == ARCHIVED:
            self.rollout.archive(state, "")
        elif champion == state.version:
            self._close(state, "champion", "promoted")
        elif challenger != state.version:
            self._close(state, "superseded", "another challenger, or none, took its place")
        elif champion != state.against:
            self.rollout.archive(state, f"its champion v{state.against} is no longer champion")
        elif state.stage == "shadow":
            self._shadow(state, now)
        else:
            self._canary(state, now)

    def _shadow(self, state: RolloutState, now: datetime) -> None:
        stages = self.rollout.stages
        made = self.evidence.shadow_lists(state.version)
        if made >= stages.shadow_lists:
            reason = f"made {made} lists unseen (wanted: {stages.shadow_lists})"
            canary = replace(state, stage="canary", since=now)
            self.rollout.enter(canary, stages.canary, reason, state.stage)
        elif abs(now - state.since) > stages.shadow_longest:
            hours = stages.shadow_longest.total_seconds() / 3600
            reason = f"made only {made} of {stages.shadow_lists} lists unseen in {hours:g} h"
            self.rollout.archive(state, reason)

    def _canary(self, state: RolloutState, now: datetime) -> None:
        found = self.evidence.canary(state.version)
        verdict = found.verdict if found is not None else "no data"
        reason = found.sentence if found is not None else "nobody was shown its lists"
        if verdict == "better":
            self.rollout.promote(state.model_name, state.version, reason, ACTOR, state.cause)
            self.rollout.store.drop_rollout(state.model_name)
        elif verdict in ("worse", "invalid"):
            self.rollout.archive(state, reason)
        elif abs(now - state.since) > self.rollout.stages.canary_longest:
            hours = self.rollout.stages.canary_longest.total_seconds() / 3600
            self.rollout.archive(state, f"no verdict in {hours:g} h: {reason}")

    def _close(self, state: RolloutState, stage: str, reason: str) -> None:
        """End a roll-out that was decided elsewhere, or before a kill."""
        self.rollout.note_once(replace(state, stage=stage), state.stage, reason)
        self.rollout.store.drop_rollout(state.model_name)
