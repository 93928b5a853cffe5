"""The gate: a challenger must be better than the champion, and nowhere clearly worse."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from movie_mlops.domain.versions import Interval
from movie_mlops.models.training.evaluation import paired_difference

Values = NDArray[np.float64]
SMALLEST_SEGMENT = 30


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the challenger may be promoted, and why."""

    passed: bool
    reason: str
    against: str
    difference: Interval
    segments: Mapping[str, Interval]

    def to_json(self) -> dict[str, Any]:
        """This verdict as JSON."""
        return asdict(self)


def gate(
    challenger: Values,
    champion: Values,
    against: str,
    segments: Mapping[str, NDArray[np.bool_]],
    *,
    is_first: bool,
    seed: int,
) -> Verdict:
    """Paired bootstrap of `challenger - champion` over the same users or films.

    Higher values are better. Passes when the lower 95 % bound of the mean difference is above 0
    and no segment of at least 30 members has an upper bound below 0; those bounds hold at 95 % for
    all segments together (Bonferroni), else twenty genres would refuse every other good model. A
    first version has no
    champion to protect: it is compared with the baseline and passes unless clearly worse.
    """
    total = paired_difference(challenger, champion, seed=seed)
    judged = {
        name: members
        for name, members in segments.items()
        if int(members.sum()) >= SMALLEST_SEGMENT
    }
    level = 1 - 0.05 / max(len(judged), 1)
    floors = {
        name: paired_difference(challenger[members], champion[members], seed, level=level)
        for name, members in judged.items()
    }
    if is_first:
        passed = total.high >= 0
        reason = f"first version, {total.value:+.4f} against {against} (95 % from {total.low:+.4f})"
        return Verdict(passed, reason, against, total, floors)
    worse = [name for name, found in floors.items() if found.high < 0]
    if total.low <= 0:
        reason = f"not clearly better than {against} (95 % from {total.low:+.4f})"
    elif worse:
        reason = f"better on the whole, but worse for {', '.join(worse)}"
    else:
        reason = f"better than {against} by {total.value:.4f} (95 % from {total.low:+.4f})"
    return Verdict(total.low > 0 and not worse, reason, against, total, floors)


def activity_terciles(counts: NDArray[np.integer[Any]]) -> dict[str, NDArray[np.bool_]]:
    """Members of the least, middle and most active third."""
    low, high = np.quantile(counts, (1 / 3, 2 / 3))
    return {
        "light users": counts <= low,
        "middle users": (counts > low) & (counts <= high),
        "heavy users": counts > high,
    }
