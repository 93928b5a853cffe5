import multiprocessing
import os
from pathlib import Path

import pytest

from movie_mlops.domain.errors import ArtifactCorruptError, ModelVersionNotFoundError
from movie_mlops.domain.versions import Alias
from movie_mlops.models.manifest import (
    KEPT_PREVIOUS,
    Entry,
    forget_unserved,
    manifest_path,
    point,
    read_manifest,
    roll_back,
)


def entry(version: int) -> Entry:
    return Entry(str(version), f"m/{version}", "0" * 64, "snapshot", "popularity")


def test_nothing_is_served_before_the_first_promotion(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) == {}
    with pytest.raises(ModelVersionNotFoundError):
        roll_back(tmp_path, "m")


def test_promotion_and_roll_back(tmp_path: Path) -> None:
    point(tmp_path, "m", Alias.CHAMPION, entry(1))
    point(tmp_path, "m", Alias.CHALLENGER, entry(2))
    served = point(tmp_path, "m", Alias.CHAMPION, entry(2))
    assert (served.champion, served.challenger) == (entry(2), None)
    assert served.previous == (entry(1),)
    assert roll_back(tmp_path, "m").champion == entry(1)
    assert read_manifest(tmp_path)["m"].champion == entry(1)
    with pytest.raises(ModelVersionNotFoundError):
        roll_back(tmp_path, "m")


def test_the_stack_of_previous_champions_is_bounded(tmp_path: Path) -> None:
    for number in range(KEPT_PREVIOUS + 5):
        point(tmp_path, "m", Alias.CHAMPION, entry(number))
    assert len(read_manifest(tmp_path)["m"].previous) == KEPT_PREVIOUS


def test_a_damaged_manifest_is_an_error_not_an_empty_one(tmp_path: Path) -> None:
    manifest_path(tmp_path).write_text('{"models": {"m": {"champion"')
    with pytest.raises(ArtifactCorruptError):
        read_manifest(tmp_path)


def _promote(serving: Path, model: str) -> None:
    for number in range(20):
        point(serving, model, Alias.CHAMPION, entry(number))


def test_fault_42_two_trainers_promote_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_promote, args=(tmp_path, name)) for name in ("a", "b")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert {name: served.champion for name, served in read_manifest(tmp_path).items()} == {
        "a": entry(19),
        "b": entry(19),
    }


def test_bundles_that_nothing_names_are_forgotten_all_but_the_newest(tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / f"m/{number}").mkdir(parents=True)
        os.utime(tmp_path / f"m/{number}", (number, number))
    point(tmp_path, "m", Alias.CHAMPION, entry(0))
    point(tmp_path, "m", Alias.CHAMPION, entry(1))
    removed = forget_unserved(tmp_path, "m", kept=2)
    assert {path.name for path in removed} == {"2", "3", "4", "5"}
    assert {path.name for path in (tmp_path / "m").iterdir()} == {"0", "1", "6", "7"}
