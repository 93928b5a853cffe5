"""Lists that were made for all users in one go: the fallback when no model can answer."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from movie_mlops.domain.errors import ArtifactCorruptError
from movie_mlops.domain.interactions import UserId
from movie_mlops.domain.movies import MovieId
from movie_mlops.domain.recommendations import RecommendationList, ScoredMovie
from movie_mlops.domain.versions import Alias
from movie_mlops.models.algorithms.base import IntArray
from movie_mlops.models.bundle import load_bundle, save_bundle
from movie_mlops.models.manifest import Entry, point
from movie_mlops.models.serving.model_loader import ModelLoader, bundle_folder

BATCH_LISTS = "batch_lists"
"""The manifest's entry that names them."""
LENGTH = 50
"""Films kept per user."""
_LOG = logging.getLogger(__name__)


def write_batch_lists(
    serving: Path,
    users: Sequence[str],
    movie_ids: NDArray[np.int64],
    scores: NDArray[np.float32],
    made_by: Entry,
) -> Entry:
    """Write the lists `movie_ids` and `scores` [users, LENGTH], 0 where a list ends; name them."""
    keys = np.fromiter(map(_key, users), np.uint64, len(users))
    order = np.argsort(keys, kind="stable")
    version = f"{made_by.version}-{made_by.card_sha256[:8]}"
    path = f"{BATCH_LISTS}/{version}"
    card = {"kind": BATCH_LISTS, "model_version": made_by.version, "snapshot": made_by.snapshot}
    arrays: dict[str, NDArray[Any]] = {
        "keys": keys[order],
        "movie_ids": movie_ids[order],
        "scores": scores[order],
    }
    sha256 = save_bundle(serving / path, arrays, card)
    entry = Entry(version, path, sha256, made_by.snapshot, BATCH_LISTS)
    point(serving, BATCH_LISTS, Alias.CHAMPION, entry)
    return entry


def without_user(
    arrays: Mapping[str, NDArray[Any]], user_id: str
) -> tuple[dict[str, NDArray[Any]], int]:
    """The arrays of a bundle without a user's list, and how many lists were taken out."""
    kept = arrays["keys"] != np.uint64(_key(user_id))
    return {name: array[kept] for name, array in arrays.items()}, int((~kept).sum())


class BatchLists:
    """Follows the manifest; the arrays stay on disk, mapped, and cost memory only when used."""

    def __init__(self, loader: ModelLoader, serving: Path) -> None:
        self._loader, self._serving = loader, serving
        self._entry: Entry | None = None
        self._made_by: tuple[str, str] = ("", "")
        self._arrays: dict[str, NDArray[Any]] = {}

    def reload(self) -> None:
        """Take over what the manifest names; a damaged bundle leaves the last good one."""
        entry = self._loader.served(BATCH_LISTS).champion
        if entry is None or entry == self._entry:
            return
        try:
            arrays, card = load_bundle(bundle_folder(self._serving, entry), entry.card_sha256)
            made_by = (str(card["model_version"]), str(card["snapshot"]))
            if not len(arrays["keys"]) == len(arrays["movie_ids"]) == len(arrays["scores"]):
                message = f"bundle {entry.path}: the lengths of the arrays disagree"
                raise ArtifactCorruptError(message)
        except (ArtifactCorruptError, KeyError) as error:
            _LOG.error("the lists for all users stay as they were: %s", error)
            return
        self._arrays, self._made_by, self._entry = arrays, made_by, entry

    def of(self, user_id: UserId, k: int, hidden: IntArray) -> RecommendationList | None:
        """The user's list without the films that are hidden by now; None when there is none."""
        arrays = self._arrays
        if not arrays:
            return None
        key = np.uint64(_key(user_id))
        at = int(np.searchsorted(arrays["keys"], key))
        if at == len(arrays["keys"]) or arrays["keys"][at] != key:
            return None
        gone = set(hidden.tolist())
        pairs = zip(arrays["movie_ids"][at].tolist(), arrays["scores"][at].tolist(), strict=True)
        items = [
            ScoredMovie(MovieId(film), score) for film, score in pairs if film and film not in gone
        ]
        version, snapshot = self._made_by
        return RecommendationList(user_id, "batch", version, snapshot, tuple(items[:k]))


def _key(user_id: str) -> int:
    """64 bits that stand for the user: the file names nobody."""
    digest = hashlib.blake2b(user_id.encode(errors="replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big")
