import json
from pathlib import Path

import numpy as np
import pytest

from movie_mlops.domain.errors import ArtifactCorruptError
from movie_mlops.models.bundle import load_bundle, save_bundle

ARRAYS = {"weights": np.arange(12, dtype=np.float32).reshape(3, 4), "ids": np.arange(3)}
CARD = {"algorithm": "x", "parameters": {"k": 3}}


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    sha = save_bundle(tmp_path / "b", ARRAYS, CARD)
    arrays, card = load_bundle(tmp_path / "b", sha)
    assert {name: array.tolist() for name, array in arrays.items()} == {
        name: array.tolist() for name, array in ARRAYS.items()
    }
    assert card["parameters"] == {"k": 3}
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_same_content_same_bytes(tmp_path: Path) -> None:
    assert save_bundle(tmp_path / "a", ARRAYS, CARD) == save_bundle(tmp_path / "b", ARRAYS, CARD)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_fault_35_weights_that_are_no_numbers_are_not_saved(tmp_path: Path, bad: float) -> None:
    save_bundle(tmp_path / "b", ARRAYS, CARD)
    with pytest.raises(ArtifactCorruptError):
        save_bundle(tmp_path / "b", {"weights": np.array([1.0, bad])}, CARD)
    assert load_bundle(tmp_path / "b")[1]["algorithm"] == "x"


@pytest.mark.parametrize("how", ["flip", "truncate", "remove", "card"])
def test_fault_38_a_damaged_bundle_is_refused(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "b"
    sha = save_bundle(folder, ARRAYS, CARD)
    path = folder / "weights.npy"
    content = bytearray(path.read_bytes())
    if how == "flip":
        content[-1] ^= 1
        path.write_bytes(content)
    elif how == "truncate":
        path.write_bytes(content[:-4])
    elif how == "remove":
        path.unlink()
    else:
        card = json.loads((folder / "card.json").read_text())
        (folder / "card.json").write_text(json.dumps({**card, "algorithm": "y"}))
    with pytest.raises(ArtifactCorruptError):
        load_bundle(folder, sha)


def test_fault_39_a_smuggled_pickle_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    save_bundle(folder, ARRAYS, CARD)
    with (folder / "weights.npy").open("wb") as stream:
        np.save(stream, np.array([{"object": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ArtifactCorruptError):
        load_bundle(folder)
    with pytest.raises(ArtifactCorruptError):
        save_bundle(folder, {"weights": np.array([{"object": 1}], dtype=object)}, CARD)
