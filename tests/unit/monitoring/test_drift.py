from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import beta, ks_2samp

from movie_mlops.monitoring.drift import compare, jensen_shannon, ks, psi
from movie_mlops.monitoring.drift_windows import MOST_PIECES, Family, Feature, Window, cut

GENRES, STARS = 8, 5
WATCHED = (
    Feature("genre", "features", "categorical"),
    Feature("year", "features", "numeric"),
    Feature("rating", "feedback", "numeric"),
)
COUNTS = st.lists(st.integers(0, 500), min_size=3, max_size=12).filter(lambda x: sum(x) > 0)


def world(
    rng: np.random.Generator, people: int = 120, shift: float = 0.0, stars: float = 0.0
) -> Family:
    """People with tastes of their own: acts of one person are far from independent.

    `shift` is the share of acts that go to genre 0 now, `stars` what ratings lose.
    """
    taste = rng.dirichlet(np.full(GENRES, 0.3), people)
    year = rng.normal(1990, 12, people)
    kind = rng.normal(3.5, 0.7, people)
    often = rng.beta(1, 2, people)
    pieces = MOST_PIECES + 1
    active = rng.random((people, pieces)) < often[:, None]
    person, piece = np.nonzero(active)
    block = np.repeat(np.arange(len(person)), rng.poisson(3 + 4 * often[person]) + 1)
    who, is_now = person[block], piece[block] == MOST_PIECES
    genre = (rng.random(len(who))[:, None] > taste[who].cumsum(axis=1)).sum(axis=1)
    genre = np.where(is_now & (rng.random(len(who)) < shift), 0, genre)
    when = rng.normal(year[who], 5)
    rating = np.clip(np.round(rng.normal(kind[who] - stars * is_now, 0.7)), 1, STARS)
    sides = []
    for side in (~is_now, is_now):
        _, index, number = np.unique(block[side], return_index=True, return_inverse=True)
        values = {"genre": genre[side], "year": when[side], "rating": rating[side]}
        sides.append(Window(who[side][index], {n: (number, v) for n, v in values.items()}))
    return Family(WATCHED, *sides)


@given(COUNTS, st.integers(0, 2**32))
def test_distances_are_bounded_symmetric_and_zero_for_the_same(
    counts: list[int], seed: int
) -> None:
    p = np.array(counts, float)
    q = np.random.default_rng(seed).permutation(p)
    for distance in (psi, ks, jensen_shannon):
        assert distance(p, p) == pytest.approx(0.0, abs=1e-7)
        assert distance(p, q) == pytest.approx(distance(q, p))
        assert distance(p, q) >= 0
    assert ks(p, q) <= 1 + 1e-12
    assert jensen_shannon(p, q) <= 1 + 1e-12
    assert jensen_shannon(p, q) == pytest.approx(float(jensenshannon(p, q, base=2)), abs=1e-7)


def test_ks_on_bins_of_single_values_is_scipys() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 9, 300), rng.integers(2, 11, 200)
    p, q = np.bincount(a, minlength=11), np.bincount(b, minlength=11)
    assert ks(p, q) == pytest.approx(ks_2samp(a, b).statistic)


def test_psi_is_the_sum_of_its_definition() -> None:
    p, q = np.array([500.0, 500.0]), np.array([600.0, 400.0])
    assert psi(p, q) == pytest.approx(0.1 * np.log(1.2) - 0.1 * np.log(0.8), rel=0.01)


def alarms(rate: float, checks: int, **how: float) -> int:
    rng = np.random.default_rng([17, checks])
    return sum(compare([world(rng, **how)], rate, 50, seed).drifted for seed in range(checks))  # type: ignore[arg-type]


def test_the_false_alarm_rate_is_what_was_asked_for() -> None:
    """500 windows of people with tastes, three features, six distances: one alarm in ten."""
    checks, rate = 500, 0.1
    found = alarms(rate, checks)
    low, high = beta.ppf([0.005, 0.995], [found, found + 1], [checks - found + 1, checks - found])
    assert low <= rate <= high, f"{found} of {checks}"


def test_events_taken_as_independent_would_alarm_all_the_time() -> None:
    """Why people are drawn and not acts: SciPy's own p-values of the same windows."""
    rng = np.random.default_rng(5)
    families = [world(rng) for _ in range(100)]
    naive = [
        ks_2samp(family.reference.values["year"][1], family.current.values["year"][1]).pvalue
        for family in families
    ]
    assert np.mean(np.array(naive) < 0.1) > 0.3


@pytest.mark.parametrize(("how", "name"), [({"shift": 0.35}, "genre"), ({"stars": 0.6}, "rating")])
def test_a_shift_is_found_and_named(how: dict[str, float], name: str) -> None:
    rng = np.random.default_rng(1)
    reports = [compare([world(rng, **how)], 0.01, 50, seed) for seed in range(20)]  # type: ignore[arg-type]
    found = [report for report in reports if report.drifted]
    assert len(found) >= 16
    named = [{each.name for each in report.features if each.drifted} for report in found]
    assert all(name in names for names in named)
    assert all(report.score > report.threshold for report in found)
    assert all(report.p_value <= 0.01 for report in found)


def test_the_score_grows_with_the_shift_and_stays_within_0_and_1() -> None:
    scores = [
        np.mean([
            compare([world(np.random.default_rng(seed), shift=shift)], 0.01, 50).score
            for seed in range(5)
        ])
        for shift in (0.0, 0.4, 0.9)
    ]  # fmt: skip
    assert 0 <= scores[0] < scores[1] < scores[2] < 1


def test_too_little_data_never_alarms() -> None:
    rng = np.random.default_rng(2)
    few_people = world(rng, people=25, shift=1.0)
    for family, fewest in ((few_people, 50), (world(rng, shift=1.0), 10_000)):
        report = compare([family], 0.2, fewest)
        assert (report.state, report.drifted, report.score) == ("too little data", False, 0.0)
    assert compare([], 0.01, 50).state == "too little data"


def test_a_feature_with_few_values_is_left_out_and_the_others_are_compared() -> None:
    family = world(np.random.default_rng(4))
    block, stars = family.current.values["rating"]
    values = {**family.current.values, "rating": (block[:10], stars[:10])}
    report = compare(
        [Family(WATCHED, family.reference, Window(family.current.people, values))], 0.01, 50
    )
    assert [each.name for each in report.features] == ["genre", "year"]


def test_the_same_windows_give_the_same_report_and_it_is_json() -> None:
    first, second = (compare([world(np.random.default_rng(9))], 0.01, 50, seed=3) for _ in range(2))
    assert first == second
    told = first.to_json()
    assert told["features"][0]["measures"][0]["name"] == "psi"
    for each in first.features:
        for side in (1, 2):
            assert sum(one[side] for one in each.bins) == pytest.approx(1.0)
        is_beyond = any(measure.value > measure.threshold for measure in each.measures)
        assert each.drifted == is_beyond


def test_drift_means_that_a_feature_is_beyond_its_bound() -> None:
    for seed in range(10):
        report = compare([world(np.random.default_rng(seed), shift=0.2)], 0.05, 50, seed)
        assert report.drifted == any(each.drifted for each in report.features)
        assert report.drifted == (report.score > report.threshold)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(2, 30), st.floats(0.01, 100))
def test_pieces_have_one_person_each_and_none_is_lost(people: int, acts: int, speed: float) -> None:
    rng = np.random.default_rng(people)
    who = np.repeat(np.arange(people), acts)
    times = rng.random(len(who)) * 86_400 * 100
    kept, block, owner = cut(who, times, (acts * people // 2, people, 86_400 * 7 / speed))
    assert (owner[block] == who[kept]).all()
    assert set(block.tolist()) == set(range(len(owner)))
    assert np.bincount(owner).max() <= MOST_PIECES


@pytest.mark.parametrize("speed", [1, 50, 5_000])
def test_pieces_are_cut_so_that_a_person_does_as_much_as_now(speed: float) -> None:
    """A week's acts within two minutes are compared with weeks, not with minutes."""
    rng = np.random.default_rng(0)
    people, rate, days = 200, 2.0, 200
    who = np.repeat(np.arange(people), int(rate * days))
    times = rng.random(len(who)) * 86_400 * days
    now = (people * 14, people, 7 * 86_400 / speed)
    kept, block, _ = cut(who, times, now)
    assert len(kept) / (block.max() + 1) == pytest.approx(14, rel=0.15)
    assert np.ptp(times[kept]) == pytest.approx(MOST_PIECES * 7 * 86_400, rel=0.2)


def thinned(window: Window, kept: np.ndarray) -> Window:
    number = np.cumsum(kept) - 1
    values = {
        name: (number[block[kept[block]]], value[kept[block]])
        for name, (block, value) in window.values.items()
    }
    return Window(window.people[kept], values)


@pytest.mark.parametrize("change", ["half of the people have gone", "half of them are new"])
def test_more_or_fewer_people_of_the_same_kind_are_no_drift(change: str) -> None:
    checks, rate, found = 150, 0.1, 0
    for seed in range(checks):
        rng = np.random.default_rng([8, seed])
        family = world(rng, people=240)
        before, now = family.reference, family.current
        if change == "half of them are new":
            before = thinned(before, before.people < 120)
        else:
            now = thinned(now, rng.random(len(now.people)) < 0.5)
        found += compare([Family(WATCHED, before, now)], rate, 50, seed).drifted
    assert found / checks < rate + 3 * sqrt(rate * (1 - rate) / checks)
