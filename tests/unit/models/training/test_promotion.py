"""The gate: fault 40, worse than the champion, or better on the whole and worse somewhere."""

import json

import numpy as np
import pytest

from movie_mlops.models.training.promotion import Verdict, activity_terciles, gate

RNG = np.random.default_rng(3)
CHAMPION = RNG.random(400)
NOBODY: dict[str, np.ndarray] = {}


def decide(
    change: float | np.ndarray, segments: dict[str, np.ndarray] = NOBODY, *, is_first: bool = False
) -> Verdict:
    noise = np.random.default_rng(4).normal(0, 0.02, len(CHAMPION))
    return gate(
        CHAMPION + change + noise, CHAMPION, "champion v1", segments, is_first=is_first, seed=1
    )


def test_clearly_better_passes_and_says_by_how_much() -> None:
    verdict = decide(0.05)
    assert verdict.passed
    assert "better than champion v1 by 0.05" in verdict.reason
    assert verdict.difference.low > 0
    assert json.loads(json.dumps(verdict.to_json()))["passed"] is True


@pytest.mark.parametrize("change", [0.0, -0.05])
def test_equal_or_worse_is_refused(change: float) -> None:
    verdict = decide(change)
    assert not verdict.passed
    assert "not clearly better than champion v1" in verdict.reason


def test_the_same_model_again_is_refused() -> None:
    verdict = gate(CHAMPION, CHAMPION, "champion v1", {}, is_first=False, seed=1)
    assert not verdict.passed


def test_better_on_the_whole_but_worse_for_a_segment_is_refused_and_names_it() -> None:
    """Fault 40."""
    light = np.arange(400) < 100
    verdict = decide(np.where(light, -0.1, 0.2), {"light users": light, "heavy users": ~light})
    assert not verdict.passed
    assert verdict.reason == "better on the whole, but worse for light users"
    assert verdict.difference.low > 0
    assert verdict.segments["light users"].high < 0


def test_a_segment_too_small_to_judge_does_not_count() -> None:
    few = np.arange(400) < 29
    verdict = decide(np.where(few, -0.1, 0.2), {"few": few})
    assert verdict.passed
    assert verdict.segments == {}


def test_a_first_version_passes_unless_it_is_clearly_worse_than_the_baseline() -> None:
    assert decide(0.0, is_first=True).passed
    assert decide(0.1, is_first=True).passed
    assert not decide(-0.1, is_first=True).passed


def test_terciles_hold_everyone_once() -> None:
    counts = RNG.integers(1, 50, 300)
    groups = activity_terciles(counts)
    assert (np.sum([*groups.values()], axis=0) == 1).all()
    assert counts[groups["light users"]].max() <= counts[groups["heavy users"]].min()
