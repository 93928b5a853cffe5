"""Sums that are carried on must equal those made anew, whatever happens to a history."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from movie_mlops.models.algorithms import create
from movie_mlops.models.algorithms.base import FloatArray, TrainingHistories
from movie_mlops.models.algorithms.film_map import pruned, rounded
from movie_mlops.models.algorithms.film_maps import DecayedMaps
from movie_mlops.models.algorithms.recent_sums import MOST_BYTES, MOST_HISTORIES

FILMS, USERS = 60, 80
KINDS = {
    "whole": ("sequence_linear", {"time_scales": [2.0, 6.0], "ridge": [5.0, 5.0]}),
    "rounded": ("sequence_linear", {"time_scales": [2.0, 6.0]}),
    "pruned": ("sequence_linear", {"time_scales": [2.0, 6.0]}),
    "endless": ("ease", {}),
}


def fitted(kind: str) -> DecayedMaps:
    """A model of invented histories, with some films that are hardly watched."""
    rng = np.random.default_rng(3)
    rows = [rng.permutation(FILMS - 5)[: rng.integers(5, 40)] for _ in range(USERS)]
    histories = TrainingHistories(
        np.arange(FILMS),
        tuple(map(str, range(USERS))),
        np.cumsum([0, *map(len, rows)]),
        np.concatenate(rows).astype(np.int32),
    )
    name, parameters = KINDS[kind]
    model = create(name, **parameters).fit(histories)
    assert isinstance(model, DecayedMaps)
    if kind in ("rounded", "pruned"):
        made = [rounded(each) if kind == "rounded" else pruned(each, 12) for each in model.maps]
        maps, more = (np.stack(part) for part in zip(*made, strict=True))
        smaller = {"steps" if kind == "rounded" else "columns": more}
        whole = (model.movie_ids, model.modelled, model.prior, model.prior_weights)
        model._set(*whole, maps, smaller)
    return model


MODELS = {kind: fitted(kind) for kind in KINDS}


def in_full(model: DecayedMaps, history: list[int]) -> FloatArray:
    """Scores without anything kept: two histories at once never are."""
    films = np.array(history, np.int64)
    found: FloatArray = model.score([films, films])[0]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_kinds_are_what_they_say(kind: str) -> None:
    of_map = MODELS[kind]._maps[0]
    assert (of_map.columns is not None) == (kind == "pruned")
    assert (of_map.steps is not None) == (kind == "rounded")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30, deadline=None)
@given(
    acts=st.lists(
        st.one_of(
            st.tuples(st.just("watch"), st.integers(0, FILMS - 1)),
            st.tuples(st.sampled_from(["undo", "late", "without"]), st.integers(0, 200)),
            st.tuples(st.just("several"), st.integers(1, 6)),
        ),
        max_size=120,
    ),
    length=st.sampled_from([7, 50, 200]),
)
def test_carried_on_sums_equal_full_ones(
    kind: str, acts: list[tuple[str, int]], length: int
) -> None:
    """Films more, one undone, one that came late, left out for once; histories are cut."""
    model, films = MODELS[kind], list(range(20))
    for act, number in acts:
        shown = films
        if act == "watch":
            films = [*films, number]
        elif act == "several":
            films = [*films, *range(number)]
        elif act == "late":
            at = number % (len(films) + 1)
            films = [*films[:at], number % FILMS, *films[at:]]
        elif films and act == "undo":
            del films[number % len(films)]
        if act == "without":
            shown = [film for film in films if film != number % FILMS]
        else:
            films = shown = films[-length:]
        found = model.score([np.array(shown, np.int64)])[0]
        wanted = in_full(model, shown)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=2e-5 * np.abs(wanted).max())


def test_many_single_films_do_not_drift() -> None:
    for kind in KINDS:
        model = MODELS[kind]
        films: list[int] = []
        rng = np.random.default_rng(1)
        for film in rng.integers(0, FILMS, 500).tolist():
            films = [*films, film][-200:]
            found = model.score([np.array(films)])[0]
        wanted = in_full(model, films)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=2e-5 * np.abs(wanted).max())


def test_what_is_kept_is_bounded_and_moves_with_the_viewer() -> None:
    model = fitted("whole")
    for viewer in range(3 * MOST_HISTORIES):
        films = [viewer % FILMS, viewer // FILMS, 1, 2, 3]
        for count in (3, 4, 5):
            model.score([np.array(films[:count])])
    kept = model._recent._kept
    assert len(kept) == MOST_HISTORIES
    assert sum(each.nbytes for _, sums in kept.values() for each in sums) <= MOST_BYTES


def test_threads_get_their_own_histories_scores() -> None:
    model, wrong = fitted("pruned"), []
    wanted = {viewer: in_full(model, [viewer, *range(30)]) for viewer in range(30, 38)}

    def ask(viewer: int) -> None:
        for _ in range(30):
            for count in range(20, 31):
                found = model.score([np.array([viewer, *range(count)])])[0]
            if not np.allclose(found, wanted[viewer], rtol=1e-4, atol=1e-5):
                wrong.append(viewer)

    threads = [threading.Thread(target=ask, args=(viewer,)) for viewer in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
