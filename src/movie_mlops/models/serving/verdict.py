"""Statistics of A/B tests that may be looked at any time: sample ratio, difference, verdict.

Both tests are martingales under their null hypothesis, so the chance that they ever raise a false
alarm is bounded by their level however often and whenever one looks.
"""

from dataclasses import dataclass
from math import lgamma, log

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
"""Cumulative counts [looks], in the order of time."""

BURN_IN = 100
"""Users that each arm must have before a difference is judged: it relies on the normal law."""
MIXTURE_SD = 0.03
"""τ: differences of about this size are found soonest; fixed before any data."""
RATIO_ALPHA = 0.01
_CONCENTRATION = 1_000.0
_lgamma = np.vectorize(lgamma, otypes=[np.float64])


@dataclass(frozen=True, slots=True)
class Difference:
    """Treatment minus control: the estimate now, an always-valid interval, an always-valid p."""

    value: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True, slots=True)
class Arms:
    """What one arm's users did, up to each look."""

    users: Counts
    conversions: Counts


def sample_ratio_p(users: NDArray[np.int64], shares: tuple[float, ...]) -> float:
    """Always-valid p-value of the hypothesis that users fall to the arms with these shares.

    `users` are cumulative counts [looks, arms]. The Bayes factor of a Dirichlet-multinomial
    around the shares against the shares themselves is a martingale, so 1 / its maximum is a
    p-value at any time (Lindon & Malek, "Anytime-valid inference for multinomial count data",
    2022).
    """
    if not len(users):
        return 1.0
    expected = np.asarray(shares)
    prior = _CONCENTRATION * expected
    total = users.sum(axis=1)
    log_factor = (
        lgamma(_CONCENTRATION)
        - _lgamma(_CONCENTRATION + total)
        + (_lgamma(prior + users) - _lgamma(prior)).sum(axis=1)
        - users @ np.log(expected)
    )
    return float(np.exp(-max(log_factor.max(), 0.0)))


def difference(
    control: Arms, treatment: Arms, alpha: float, burn_in: int = BURN_IN
) -> Difference | None:
    """Treatment's conversion rate minus control's; None until both arms have `burn_in` users.

    The mixture sequential probability ratio test with a normal mixture (Johari, Pekelis & Walsh,
    "Peeking at A/B tests", 2017): Λ = √(V/(V+τ²)) · exp(τ²D²/(2V(V+τ²))) with V the variance of
    the difference D; p is the least 1/Λ of all looks, the interval the intersection of all looks'
    intervals at level 1 - `alpha`. The two arrays of an arm have one place per look.
    """
    enough = (control.users >= burn_in) & (treatment.users >= burn_in)
    if not enough.any():
        return None
    (before, v_before), (after, v_after) = (_rates(arm, enough) for arm in (control, treatment))
    found, variance = after - before, v_before + v_after
    spread = MIXTURE_SD**2
    log_ratio = 0.5 * np.log(variance / (variance + spread)) + spread * found**2 / (
        2 * variance * (variance + spread)
    )
    radius = np.sqrt(
        2 * variance * (variance + spread) / spread
        * (log(1 / alpha) + 0.5 * np.log((variance + spread) / variance))
    )  # fmt: skip
    value = float(found[-1])
    low, high = float((found - radius).max()), float((found + radius).min())
    if low > high:  # looks that contradict each other: the last one alone speaks
        low, high = value - float(radius[-1]), value + float(radius[-1])
    return Difference(value, low, high, float(np.exp(-max(log_ratio.max(), 0.0))))


def strongest(found: dict[str, Difference | None]) -> tuple[str, Difference] | None:
    """The arm whose difference is surest; None while none can be judged."""
    judged = [(name, one) for name, one in found.items() if one is not None]
    return min(judged, key=lambda pair: pair[1].p_value, default=None)


def cumulated(places: Counts, values: Counts, looks: int) -> Counts:
    """Running sums of `values` that fall on these places of `looks`."""
    return np.bincount(places, values, minlength=looks).cumsum().astype(np.int64)


def _rates(arm: Arms, looks: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rate and its variance at these looks; one more success and failure keep it above 0."""
    users, conversions = arm.users[looks], arm.conversions[looks]
    smooth = (conversions + 1) / (users + 2)
    return conversions / users, smooth * (1 - smooth) / users
