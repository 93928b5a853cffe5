"""A blend is the weighted sum of what its members say, in every respect."""

import numpy as np
import pytest

from movie_mlops.domain.errors import ArtifactCorruptError, ConfigurationError
from movie_mlops.models.algorithms import create, load
from movie_mlops.models.algorithms.base import TrainingHistories
from movie_mlops.models.algorithms.blend import Blend

MEMBERS = (("sequence_linear", {"ridge": [5.0, 20.0]}, 40.0), ("ease", {"recency": None}, 2.0))


@pytest.fixture(scope="module")
def histories() -> TrainingHistories:
    rng = np.random.default_rng(0)
    lists = [rng.permutation(25)[: rng.integers(3, 20)] for _ in range(80)]
    indptr = np.cumsum([0, *map(len, lists)])
    items = np.concatenate(lists).astype(np.int32)
    return TrainingHistories(np.arange(25), tuple(map(str, range(80))), indptr, items)


def test_everything_is_the_weighted_sum(histories: TrainingHistories) -> None:
    model = Blend(MEMBERS).fit(histories)
    members = [(create(name, **given).fit(histories), w) for name, given, w in MEMBERS]
    asked = [histories.of(0), histories.of(1)[:2], np.empty(0, np.int64)]
    for found, expected in (
        (model.score(asked), sum(w * m.score(asked) for m, w in members)),
        (
            model.contributions(asked[0], 3),
            sum(w * m.contributions(asked[0], 3) for m, w in members),
        ),
        (model.baseline(2), sum(w * m.baseline(2) for m, w in members)),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_memory_is_shared_and_what_is_left_passed_on(histories: TrainingHistories) -> None:
    whole = sum(m.artifact()[0]["maps"].nbytes for m in Blend(MEMBERS).fit(histories).members)
    budget = 0.5 * whole / 2**20
    arrays, card = Blend(MEMBERS, max_memory_mb=budget).fit(histories).artifact()
    assert sum(array.nbytes for name, array in arrays.items() if "maps" in name) < 0.5 * whole
    modelled = [member["modelled_films"] for member in card["members"]]
    assert all(0 < films < 25 for films in modelled)


def test_two_of_a_kind_differ_and_the_same_seed_gives_the_same(
    histories: TrainingHistories,
) -> None:
    twice = [("linear_softmax", {"dim": 4, "epochs": 1}, 1.0)] * 2
    one, same = (Blend(twice).fit(histories, 3) for _ in range(2))
    first, second = (member.score([histories.of(0)]) for member in one.members)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(one.score([histories.of(0)]), same.score([histories.of(0)]))


def test_a_member_without_baseline_or_budget_is_welcome(histories: TrainingHistories) -> None:
    members = (("popularity", {}, 2.0), ("sequence_linear", {}, 1.0))
    model = Blend(members).fit(histories)
    expected = 2 * model.members[0].score([histories.of(0)])[0] + model.members[1].baseline(4)
    np.testing.assert_allclose(model.baseline(4), expected, rtol=1e-5)
    assert model.baseline(np.array([0, 3])).shape == (2, 25)


def test_progress_is_that_of_the_members(histories: TrainingHistories) -> None:
    told = []
    model = Blend((("linear_softmax", {"epochs": 2, "dim": 4}, 1.0), *MEMBERS))
    model.progress = lambda *what: told.append(what[1:])
    model.fit(histories)
    assert told == [(1, 2), (2, 2)]


def test_unknown_members_are_refused_before_the_fit() -> None:
    with pytest.raises(ConfigurationError, match="no_such"):
        create("blend", members=[("no_such", {}, 1.0)])
    with pytest.raises(ConfigurationError, match="no_such"):
        create("blend", members=[("ease", {"no_such": 1}, 1.0)])


def test_a_broken_member_is_named(histories: TrainingHistories) -> None:
    arrays, card = Blend(MEMBERS).fit(histories).artifact()
    del arrays["1_ease_maps"]
    with pytest.raises(ArtifactCorruptError, match="1_ease_maps"):
        load(arrays, card)
