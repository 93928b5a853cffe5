"""Who was erased, by keyed hash: replays and consumers leave their old events out."""

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

from movie_mlops.events.base import Place, Position

_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Erasure:
    """One erased viewer: `name` is the hash, `at` is ISO time in UTC.

    `ends` maps `topic:partition` to the first offset that counts again: somebody who comes back
    under the same id is a new viewer from there on.
    """

    name: str
    at: str
    ends: Mapping[str, int]
    is_done: bool = False


class ErasedUsers:
    """A list of hashes and the key they are made with, in one folder; any process may read it.

    The ids themselves are nowhere: without the key a hash names nobody, with the key it can only
    be checked whether an id that one already has is on the list. One writer at a time.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "users.json"
        self._seen: tuple[int, int, int] | None = None
        self._erased: dict[str, Erasure] = {}
        self.look()

    def look(self) -> None:
        """Take over what another process added; costs a microsecond when nothing changed."""
        try:
            found = self._file.stat()
        except FileNotFoundError:
            return
        seen = found.st_mtime_ns, found.st_ino, found.st_size
        if seen != self._seen:
            raw: dict[str, Any] = json.loads(self._file.read_text())
            self._erased = {name: Erasure(**value) for name, value in raw.items()}
            self._seen = seen

    def hides(self, user_id: str, position: Position) -> bool:
        """Whether this viewer's event at this place of the log was erased; see `look`."""
        found = self.find(user_id)
        if found is None:
            return False
        topic, partition, offset = position
        return offset < found.ends.get(f"{topic}:{partition}", 0)

    def knows(self, user_id: str) -> bool:
        """Whether this viewer was erased once: what a source says of him is left out for good."""
        self.look()
        return self.find(user_id) is not None

    def find(self, user_id: str) -> Erasure | None:
        """The viewer's latest erasure; see `look`."""
        return self._erased.get(self.name_of(user_id)) if self._erased else None

    def name_of(self, user_id: str) -> str:
        """The hash that stands for the viewer in this home."""
        return blake2b(user_id.encode(), key=self._key, digest_size=16).hexdigest()

    def begin(self, user_id: str, ends: Mapping[Place, int]) -> Erasure:
        """Note the viewer before anything is removed; one that was not finished goes on.

        `ends` are the log's end positions of now.
        """
        self.look()
        found = self.find(user_id)
        if found is None or found.is_done:
            text = {f"{topic}:{partition}": end for (topic, partition), end in ends.items()}
            at = datetime.now(UTC).isoformat(timespec="microseconds")
            found = Erasure(self.name_of(user_id), at, text)
            self._write(found)
        return found

    def finish(self, erasure: Erasure) -> None:
        """Note that nothing is left to remove."""
        self.look()
        self._write(replace(erasure, is_done=True))

    def _write(self, erasure: Erasure) -> None:
        kept = self._erased | {erasure.name: erasure}
        text = json.dumps({name: asdict(each) for name, each in kept.items()}, indent=1)
        _write_flushed(self._file, text.encode())
        self.look()

    @cached_property
    def _key(self) -> bytes:
        path = self._folder / "key"
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            _write_flushed(path, secrets.token_hex(_KEY_BYTES).encode())
        return bytes.fromhex(path.read_text())


def _write_flushed(path: Path, content: bytes) -> None:
    beside = path.with_suffix(".partial")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    beside.replace(path)
