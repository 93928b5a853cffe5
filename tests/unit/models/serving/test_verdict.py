"""Faults 67 and 68: false alarms are bounded however often one looks, real ones are found."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from movie_mlops.models.serving.verdict import (
    BURN_IN,
    Arms,
    cumulated,
    difference,
    sample_ratio_p,
    strongest,
)

ALPHA = 0.05
RUNS, USERS, STEP = 400, 10_000, 50


def simulate(
    rng: np.random.Generator, rates: tuple[float, float], share: float = 0.5
) -> tuple[Arms, Arms]:
    """One test, looked at after every `STEP` users."""
    looks = USERS // STEP
    treated = rng.binomial(STEP, share, looks)
    arms = []
    for users, rate in zip((STEP - treated, treated), rates, strict=True):
        arms.append(Arms(users.cumsum(), rng.binomial(users, rate).cumsum()))
    return arms[0], arms[1]


def most(level: float, runs: int) -> float:
    """The largest share of alarms that a true rate of `level` explains (3 standard errors)."""
    return level + 3 * float(np.sqrt(level * (1 - level) / runs))


@pytest.mark.parametrize(("rate", "share"), [(0.02, 0.5), (0.1, 0.5), (0.3, 0.5), (0.1, 0.1)])
def test_peeking_after_every_50_users_raises_no_more_false_alarms(
    rate: float, share: float
) -> None:
    """Fault 68."""
    rng = np.random.default_rng(7)
    alarms = missed = 0
    for _ in range(RUNS):
        found = difference(*simulate(rng, (rate, rate), share), ALPHA)
        assert found is not None
        alarms += found.p_value <= ALPHA
        missed += not found.low <= 0 <= found.high
    assert alarms / RUNS <= most(ALPHA, RUNS)
    assert missed / RUNS <= most(ALPHA, RUNS)


def test_a_test_of_fixed_size_would_have_cried_wolf() -> None:
    """The same peeking with the textbook's z test: why the other one is needed."""
    rng = np.random.default_rng(7)
    alarms = 0
    for _ in range(RUNS):
        control, treatment = simulate(rng, (0.1, 0.1))
        late = control.users >= BURN_IN
        rates = [arm.conversions[late] / arm.users[late] for arm in (control, treatment)]
        errors = [
            rate * (1 - rate) / arm.users[late]
            for rate, arm in zip(rates, (control, treatment), strict=True)
        ]
        alarms += bool((np.abs(rates[1] - rates[0]) > 1.96 * np.sqrt(sum(errors))).any())
    assert alarms / RUNS > 4 * ALPHA


@pytest.mark.parametrize(("rates", "sign"), [((0.1, 0.13), 1), ((0.1, 0.07), -1)])
def test_a_real_difference_is_found_and_has_its_sign(rates: tuple[float, float], sign: int) -> None:
    rng = np.random.default_rng(11)
    found = [difference(*simulate(rng, rates), ALPHA) for _ in range(100)]
    alarms = [one for one in found if one is not None and one.p_value <= ALPHA]
    assert len(alarms) >= 85
    assert all(sign * one.value > 0 for one in alarms)
    truth = rates[1] - rates[0]
    inside = sum(one is not None and one.low <= truth <= one.high for one in found)
    assert inside >= 100 * (1 - most(ALPHA, 100))


def test_the_sample_ratio_is_checked_at_any_time_too() -> None:
    """Fault 67."""
    rng = np.random.default_rng(3)

    def alarms(planned: tuple[float, float], real: float, runs: int) -> float:
        found = 0
        for _ in range(runs):
            second = rng.binomial(STEP, real, USERS // STEP)
            users = np.stack([STEP - second, second], axis=1).cumsum(axis=0)
            found += sample_ratio_p(users, planned) <= 0.01
        return found / runs

    assert alarms((0.5, 0.5), 0.5, RUNS) <= most(0.01, RUNS)
    assert alarms((0.9, 0.1), 0.1, RUNS) <= most(0.01, RUNS)
    assert alarms((0.5, 0.5), 0.46, 100) > 0.95
    assert alarms((0.9, 0.1), 0.08, 100) > 0.95


counts = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=60)


@given(counts, counts)
def test_a_later_look_never_takes_back_what_was_found(
    control: list[tuple[int, int]], treatment: list[tuple[int, int]]
) -> None:
    looks = min(len(control), len(treatment))

    def arm(cells: list[tuple[int, int]], end: int) -> Arms:
        users = np.array([max(pair) for pair in cells[:end]], np.int64).cumsum()
        return Arms(users, np.array([min(pair) for pair in cells[:end]], np.int64).cumsum())

    before = 1.0
    for end in range(1, looks + 1):
        found = difference(arm(control, end), arm(treatment, end), ALPHA)
        if found is None:
            continue
        assert found.p_value <= before + 1e-12
        assert -2 <= found.low <= found.high <= 2
        before = found.p_value


def test_little_data_is_no_verdict() -> None:
    few, enough = Arms(np.array([99]), np.array([5])), Arms(np.array([100]), np.array([5]))
    assert difference(few, enough, ALPHA) is None
    nothing = Arms(np.array([], np.int64), np.array([], np.int64))
    assert difference(nothing, nothing, ALPHA) is None
    same = difference(enough, enough, ALPHA)
    assert same is not None
    assert (same.value, same.p_value) == (0.0, 1.0)
    assert strongest({"a": None}) is None
    assert strongest({"a": None, "b": same}) == ("b", same)
    assert sample_ratio_p(np.empty((0, 2), np.int64), (0.5, 0.5)) == 1.0


def test_counts_are_summed_where_they_fall() -> None:
    found = cumulated(np.array([0, 2, 2]), np.array([1, 2, 3]), 4)
    assert found.tolist() == [1, 1, 6, 6]
