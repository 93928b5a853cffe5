"""What an A/B test says now: arms, sample ratio, difference, verdict and a sentence."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import msgspec
import numpy as np

from movie_mlops.domain.experiments import Experiment
from movie_mlops.models.serving.experiment_store import ExperimentStore, Found
from movie_mlops.models.serving.verdict import (
    BURN_IN,
    RATIO_ALPHA,
    Arms,
    Difference,
    cumulated,
    difference,
    sample_ratio_p,
    strongest,
)

Verdict = Literal["running", "better", "worse", "no data", "invalid"]
_LONGEST_BUCKET_MS = 60_000
_LOOKS_PER_WINDOW = 60


@dataclass(frozen=True, slots=True)
class ArmReport:
    """One arm; `users` are those whose attribution window is over, only they count."""

    name: str
    alias: str
    share: float
    model_versions: tuple[str, ...]
    exposures: int
    exposed_users: int
    users: int
    conversions: int
    rate: float | None


@dataclass(frozen=True, slots=True)
class RatioReport:
    """Whether users fell to the arms as planned; `p_value` may be looked at any time."""

    p_value: float
    alpha: float
    ok: bool


@dataclass(frozen=True, slots=True)
class DifferenceReport:
    """Rate of `arm` minus rate of `against`; interval and p-value may be looked at any time."""

    arm: str
    against: str
    value: float
    low: float
    high: float
    level: float
    p_value: float


@dataclass(frozen=True, slots=True)
class ExperimentReport:
    """A test as it stands; `excluded_users` were shown more than one arm."""

    name: str
    active: bool
    started: datetime
    joined_until: datetime | None
    attribution_minutes: float
    alpha: float
    arms: tuple[ArmReport, ...]
    excluded_users: int
    sample_ratio: RatioReport
    difference: DifferenceReport | None
    p_value: float | None
    verdict: Verdict
    sentence: str


def encode_definition(experiment: Experiment) -> bytes:
    """The bytes that a test is remembered by."""
    return msgspec.json.encode(experiment)


def decode_definition(definition: bytes) -> Experiment:
    """The test of these bytes."""
    return msgspec.json.decode(definition, type=Experiment)


def window_ms(experiment: Experiment) -> int:
    """How long after a user's first exposure an outcome counts."""
    return max(round(60_000 * experiment.attribution_minutes), 1)


def report_on(store: ExperimentStore, name: str, *, active: bool) -> ExperimentReport | None:
    """The test's report; None when there is no test of this name.

    Raises:
        EngineUnavailableError: the store does not answer.
    """
    definition = store.definition(name)
    if definition is None:
        return None
    experiment = decode_definition(definition)
    window = window_ms(experiment)
    bucket = min(max(window // _LOOKS_PER_WINDOW, 10), _LONGEST_BUCKET_MS)
    found = store.find(name, bucket)
    if found is None:
        return None
    return _Reading(experiment, found, bucket).report(active=active)


class _Reading:
    """A stored test as running counts; one look at the end of each bucket of time."""

    def __init__(self, experiment: Experiment, found: Found, bucket_ms: int) -> None:
        self._experiment, self._found = experiment, found
        buckets = np.array([cell[0] for cell in found.cells], np.int64)
        names = np.array([cell[1] for cell in found.cells], np.str_)
        users = np.array([cell[2] for cell in found.cells], np.int64)
        converted = np.array([cell[3] for cell in found.cells], np.int64)
        looks, places = np.unique(buckets, return_inverse=True)
        # a bucket counts when the window of its last possible user is over
        over = (looks + 1) * bucket_ms + window_ms(experiment) <= found.joined_ms
        closed = int(over.sum())
        self._exposed: dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]] = {}
        self._arms: dict[str, Arms] = {}
        for arm in experiment.arms:
            mine = names == arm.name
            counts = [
                cumulated(places[mine], each[mine], len(looks)) for each in (users, converted)
            ]
            self._exposed[arm.name] = counts[0]
            self._arms[arm.name] = Arms(counts[0][:closed], counts[1][:closed])

    def report(self, *, active: bool) -> ExperimentReport:
        experiment, found = self._experiment, self._found
        control, *others = (arm.name for arm in experiment.arms)
        level = experiment.alpha / len(others)  # so that all comparisons together keep alpha
        best = strongest(
            {name: difference(self._arms[control], self._arms[name], level) for name in others}
        )
        exposed = np.stack(list(self._exposed.values()), axis=1)
        p_ratio = sample_ratio_p(exposed, experiment.shares)
        ratio = RatioReport(p_ratio, RATIO_ALPHA, p_ratio > RATIO_ALPHA)
        verdict, sentence = self._verdict(best, ratio, level)
        shown = None
        if best is not None:
            name, one = best
            shown = DifferenceReport(
                name, control, one.value, one.low, one.high, 1 - level, one.p_value
            )
        return ExperimentReport(
            name=experiment.name,
            active=active,
            started=_time(found.started_ms),
            joined_until=_time(found.joined_ms) if found.joined_ms else None,
            attribution_minutes=experiment.attribution_minutes,
            alpha=experiment.alpha,
            arms=self._arm_reports(),
            excluded_users=found.crossed,
            sample_ratio=ratio,
            difference=shown,
            p_value=shown.p_value if shown else None,
            verdict=verdict,
            sentence=sentence,
        )

    def _arm_reports(self) -> tuple[ArmReport, ...]:
        made = []
        for arm, share in zip(self._experiment.arms, self._experiment.shares, strict=True):
            versions = self._found.versions.get(arm.name, {})
            users, conversions = (_last(each) for each in (
                self._arms[arm.name].users, self._arms[arm.name].conversions))  # fmt: skip
            made.append(
                ArmReport(
                    name=arm.name,
                    alias=str(arm.alias),
                    share=share,
                    model_versions=tuple(sorted(versions)),
                    exposures=sum(versions.values()),
                    exposed_users=_last(self._exposed[arm.name]),
                    users=users,
                    conversions=conversions,
                    rate=conversions / users if users else None,
                )
            )
        return tuple(made)

    def _verdict(
        self, best: tuple[str, Difference] | None, ratio: RatioReport, level: float
    ) -> tuple[Verdict, str]:
        if self._found.changed:
            return "invalid", "The arms were changed while it ran; give the new test a new name."
        if not ratio.ok:
            return "invalid", (
                f"Users do not fall to the arms as planned (p = {ratio.p_value:.2g}); "
                "look for what loses one arm's users before believing any figure."
            )
        counted = sum(_last(arm.users) for arm in self._arms.values())
        if not counted:
            return "no data", "Nobody's attribution window is over yet."
        if best is None:
            return "running", (
                f"{counted} users count so far; a difference is judged from {BURN_IN} in each arm."
            )
        name, one = best
        control = self._experiment.arms[0].name
        points = f"{100 * one.low:+.2f} to {100 * one.high:+.2f} points"
        if one.p_value > level:
            return "running", f"{name} against {control} is still open: {points}."
        word: Verdict = "better" if one.value > 0 else "worse"
        return word, f"{name} is {word} than {control}: {points} (p = {one.p_value:.2g})."


def _last(counts: np.ndarray[tuple[int], np.dtype[np.int64]]) -> int:
    return int(counts[-1]) if len(counts) else 0


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
