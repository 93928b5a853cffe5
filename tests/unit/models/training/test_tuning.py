"""The search for hyperparameters: resumable, within limits, never worse than the default."""

from pathlib import Path

import pytest

from movie_mlops.domain.errors import ConfigurationError
from movie_mlops.models.algorithms import create
from movie_mlops.models.training.tuning import SPACES, Attempt, Search, read_tuned, write_tuned


def near_three(parameters: dict) -> tuple[float, str | None]:
    """Best at log10(shrink) = .477."""
    shrink = parameters.get("shrink", 10.0)
    return -abs(shrink - 3.0), "too small a shrink" if shrink < 2 else None


def searching(folder: Path, trials: int, told: list[Attempt]) -> Attempt:
    search = Search("item_neighbours", f"sqlite:///{folder / 'studies.db'}", "study", seed=5)
    return search.run(near_three, trials, None, told.append)


def test_a_search_goes_on_where_it_stopped_and_beats_the_default(tmp_path: Path) -> None:
    told: list[Attempt] = []
    first = searching(tmp_path, 6, told)
    assert [attempt.number for attempt in told] == list(range(6))
    assert told[0].parameters == {}  # the default comes first
    last = searching(tmp_path, 20, told)
    assert [attempt.number for attempt in told] == list(range(20))
    shrinks = [attempt.parameters["shrink"] for attempt in told[1:]]
    assert len(set(shrinks)) == len(shrinks)  # nothing is drawn twice after the interruption
    assert last.value is not None
    assert first.value is not None
    assert last.value >= first.value >= -7.0
    assert searching(tmp_path, 20, told).number == last.number
    assert len(told) == 20  # all wanted trials stand in the study already


def test_a_setting_over_the_limits_is_never_the_best(tmp_path: Path) -> None:
    told: list[Attempt] = []
    best = searching(tmp_path, 25, told)
    broken = [attempt for attempt in told if attempt.note]
    assert broken
    assert all(attempt.value is None for attempt in broken)
    assert best.parameters.get("shrink", 10.0) >= 2


def test_nothing_allowed_and_nothing_to_search_are_told(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    with pytest.raises(ConfigurationError, match="keeps the limits"):
        Search("item_neighbours", url, "all broken", 0).run(
            lambda _: (0.0, "broken"), 2, None, lambda _: None
        )
    with pytest.raises(ConfigurationError, match="nothing to search"):
        Search("popularity", url, "x", 0).run(near_three, 1, None, lambda _: None)


def test_the_best_setting_is_found_by_the_next_training(tmp_path: Path) -> None:
    assert read_tuned(tmp_path, "item_neighbours") == {}
    path = write_tuned(tmp_path, "item_neighbours", Attempt(3, {"shrink": 4.5}, 0.2, ""), "study")
    assert read_tuned(tmp_path, "item_neighbours") == {"shrink": 4.5}
    path.write_text("[]")
    with pytest.raises(ConfigurationError, match="remove it"):
        read_tuned(tmp_path, "item_neighbours")


@pytest.mark.parametrize("algorithm", list(SPACES))
def test_every_space_is_one_of_the_constructors_arguments(algorithm: str, tmp_path: Path) -> None:
    told: list[Attempt] = []
    search = Search(algorithm, f"sqlite:///{tmp_path / 'studies.db'}", "shape", seed=1)
    search.run(lambda parameters: (0.0, None), 3, None, told.append)
    for attempt in told:
        create(algorithm, **attempt.parameters)
    assert len(told) == 3
