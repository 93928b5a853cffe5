"""Drift between two windows: PSI, KS, Jensen-Shannon; thresholds whose false-alarm rate holds.

What one person does hangs together, so a window is not so many independent values. Values lie in
blocks: what one person did within one piece of time, as long as the current window. Where nothing
has changed, which of a person's pieces is the current one is an accident; so other pieces are
drawn in its place, person by person, many times. How far these stand from the rest is how far the
current window may stand. One bound holds for all features together: the largest of their
standardised distances is compared with the largest of each draw (Westfall & Young,
"Resampling-based multiple testing", 1993), which keeps the rate whatever their dependence.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any, Literal

import numpy as np

from movie_mlops.monitoring.drift_windows import BlockCounts, Counted, Family, Floats, Kind

State = Literal["drift", "no drift", "too little data"]
Distance = Literal["psi", "ks", "js"]

SCORE_THRESHOLD = 0.5
FEWEST_PEOPLE = 20
_TAIL_DRAWS = 10  # so many of the draws lie beyond the bound


@dataclass(frozen=True, slots=True)
class Measure:
    """One distance; it drifted when `value` is above `threshold`."""

    name: Distance
    value: float
    threshold: float


@dataclass(frozen=True, slots=True)
class FeatureDrift:
    """How one feature moved; `bins` are (label, share in the reference, share now)."""

    name: str
    group: str
    kind: Kind
    reference_count: int
    current_count: int
    measures: tuple[Measure, ...]
    drifted: bool
    bins: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True, slots=True)
class DriftReport:
    """The comparison of two windows.

    `score` is 0 … 1 and grows with the strongest shift; drift is a score above `threshold`, which
    happens by accident at most at `false_alarm_rate` per check. `people` are the blocks compared.
    """

    state: State
    score: float
    threshold: float
    p_value: float
    false_alarm_rate: float
    people: int
    values: int
    features: tuple[FeatureDrift, ...] = ()

    @property
    def drifted(self) -> bool:
        """Whether an alarm is due."""
        return self.state == "drift"

    def to_json(self) -> dict[str, Any]:
        """This report as JSON."""
        return asdict(self)


def psi(reference: Floats, current: Floats) -> Floats:
    """Population stability index of counts [..., bins]; half a count more keeps bins from 0."""
    p, q = _shares(reference + 0.5), _shares(current + 0.5)
    index: Floats = np.sum((q - p) * np.log(q / p), axis=-1)
    return index


def ks(reference: Floats, current: Floats) -> Floats:
    """Two-sample Kolmogorov-Smirnov distance of counts [..., ordered bins]."""
    apart = np.cumsum(_shares(reference), axis=-1) - np.cumsum(_shares(current), axis=-1)
    distance: Floats = np.abs(apart).max(axis=-1)
    return distance


def jensen_shannon(reference: Floats, current: Floats) -> Floats:
    """Jensen-Shannon distance of counts [..., bins], base 2: 0 the same … 1 nothing in common."""
    p, q = _shares(reference), _shares(current)
    mean = (p + q) / 2
    divergence = (_relative_entropy(p, mean) + _relative_entropy(q, mean)) / 2
    distance: Floats = np.sqrt(np.maximum(divergence, 0.0))
    return distance


def compare(
    families: Sequence[Family], false_alarm_rate: float, min_values: int, seed: int = 0
) -> DriftReport:
    """Whether the current windows differ from their references.

    Args:
        families: features by their blocks.
        false_alarm_rate: of one check, all features together.
        min_values: a family with fewer values in the current window is not judged.
        seed: of the draws; the same input and seed, the same report.
    """
    rng = np.random.default_rng(seed)
    size = sum(family.current.size for family in families)
    judged = [family for family in families if _is_enough(family, min_values)]
    tables = [BlockCounts(family, rng) for family in judged]
    tables = [table for table in tables if table.counted]
    if not tables:
        return DriftReport("too little data", 0.0, SCORE_THRESHOLD, 1.0, false_alarm_rate, 0, size)
    draws = ceil(_TAIL_DRAWS / false_alarm_rate) - 1
    # row 0 is what was observed; it counts as one of the draws, which makes the test exact
    distances = np.concatenate([_distances(table, draws, rng) for table in tables], axis=1)
    centre, spread = distances.mean(axis=0), np.maximum(distances.std(axis=0), 1e-12)
    largest = ((distances - centre) / spread).max(axis=1)
    bound = float(np.sort(largest[1:])[-_TAIL_DRAWS])
    height, limit = max(float(largest[0]), 0.0), max(bound, 1e-9)
    thresholds = np.maximum(centre + bound * spread, 0.0)
    features: list[FeatureDrift] = []
    for table in tables:
        before, now = table.observed()
        for part in table.counted:
            at = slice(2 * len(features), 2 * len(features) + 2)
            counts = before[0, part.columns], now[0, part.columns]
            features.append(_feature_drift(part, counts, distances[0, at], thresholds[at]))
    return DriftReport(
        state="drift" if largest[0] > bound else "no drift",
        score=round(height / (height + limit), 6),
        threshold=SCORE_THRESHOLD,
        p_value=float((largest >= largest[0]).mean()),
        false_alarm_rate=false_alarm_rate,
        people=sum(table.people for table in tables),
        values=size,
        features=tuple(features),
    )


def _is_enough(family: Family, min_values: int) -> bool:
    windows = (family.reference, family.current)
    return all(
        window.size >= min_values and len(window.people) >= FEWEST_PEOPLE for window in windows
    )


def _distances(table: BlockCounts, draws: int, rng: np.random.Generator) -> Floats:
    """[1 + draws, 2 per feature]: root of the PSI (as linear as the other), KS or Jensen-Shannon.

    The first row is what was observed.
    """
    pairs = zip(table.observed(), *table.drawn(draws, rng), strict=True)
    before, now = (np.concatenate(side) for side in pairs)
    columns = []
    for part in table.counted:
        p, q = before[:, part.columns], now[:, part.columns]
        other = ks if part.feature.kind == "numeric" else jensen_shannon
        columns += [np.sqrt(psi(part.merged(p), part.merged(q))), other(p, q)]
    return np.stack(columns, axis=1)


def _feature_drift(
    part: Counted, counts: tuple[Floats, Floats], found: Floats, thresholds: Floats
) -> FeatureDrift:
    names: tuple[Distance, ...] = ("psi", "ks" if part.feature.kind == "numeric" else "js")
    merged = [part.merged(each) for each in counts]
    pairs = zip(names, (found[0] ** 2, found[1]), (thresholds[0] ** 2, thresholds[1]), strict=True)
    return FeatureDrift(
        name=part.feature.name,
        group=part.feature.group,
        kind=part.feature.kind,
        reference_count=round(float(counts[0].sum())),
        current_count=round(float(counts[1].sum())),
        measures=tuple(Measure(name, float(value), float(bound)) for name, value, bound in pairs),
        drifted=bool((found > thresholds).any()),
        bins=tuple(zip(part.labels, *(_shares(each).tolist() for each in merged), strict=True)),
    )


def _shares(counts: Floats) -> Floats:
    shares: Floats = counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1e-12)
    return shares


def _relative_entropy(p: Floats, q: Floats) -> Floats:
    ratio = np.divide(p, q, out=np.ones_like(p), where=p > 0)
    entropy: Floats = np.sum(p * np.log2(ratio), axis=-1)
    return entropy
