"""A fitted model on disk: one .npy per array, a JSON card, SHA-256 of every file. No pickle."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from movie_mlops.domain.errors import ArtifactCorruptError

CARD = "card.json"
_CHUNK = 1 << 20


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def save_bundle(folder: Path, arrays: Mapping[str, NDArray[Any]], card: Mapping[str, Any]) -> str:
    """Write a bundle beside `folder`, flush it to disk, swap it in; return the card's SHA-256.

    The same arrays and card give the same bytes. An existing bundle of that name is replaced.

    Raises:
        ArtifactCorruptError: an array holds objects, NaN or infinity.
    """
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        files = {name: _write_array(beside, name, arrays[name]) for name in sorted(arrays)}
        text = json.dumps({**card, "files": files}, sort_keys=True, indent=1, allow_nan=False)
        _write_flushed(beside / CARD, text.encode())
        if folder.exists():
            shutil.rmtree(folder)
        beside.replace(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return file_sha256(folder / CARD)


def load_bundle(
    folder: Path, card_sha256: str | None = None
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read arrays (memory-mapped, read-only) and card, verifying every hash.

    Raises:
        ArtifactCorruptError: a file is missing, has another hash, or is no plain array; the
            card is not the one that `card_sha256` names.
    """
    try:
        raw = (folder / CARD).read_bytes()
        if card_sha256 is not None and hashlib.sha256(raw).hexdigest() != card_sha256:
            message = f"{folder / CARD} is not the card that the manifest names"
            raise ArtifactCorruptError(message)
        card = json.loads(raw)
        arrays = {
            name: _read_array(folder / f"{name}.npy", sha) for name, sha in card["files"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"bundle {folder} cannot be read: {error}"
        raise ArtifactCorruptError(message) from error
    return arrays, card


def _write_array(folder: Path, name: str, array: NDArray[Any]) -> str:
    if array.dtype.hasobject or (array.dtype.kind == "f" and not np.isfinite(array).all()):
        message = f"array {name!r} holds objects, NaN or infinity; it is not saved"
        raise ArtifactCorruptError(message)
    path = folder / f"{name}.npy"
    with path.open("wb") as stream:
        np.save(stream, np.ascontiguousarray(array), allow_pickle=False)
        stream.flush()
        os.fsync(stream.fileno())
    return file_sha256(path)


def _write_flushed(path: Path, content: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _read_array(path: Path, sha256: str) -> NDArray[Any]:
    if file_sha256(path) != sha256:
        message = f"{path} does not have the hash that its card names"
        raise ArtifactCorruptError(message)
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array
