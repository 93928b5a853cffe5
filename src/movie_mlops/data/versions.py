"""Snapshots of the tables: tags, manifest and diff of ours over DVC's content-addressed cache."""

import json
import logging
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from movie_mlops.data.lake import holding
from movie_mlops.domain.errors import EngineUnavailableError, SnapshotNotFoundError

TABLES_FOLDER = "processed"
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One immutable state; `files` maps a path below the tables' folder to its MD5."""

    tag: str
    created_at: str
    tree: str
    size: int
    files: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """This snapshot as JSON."""
        return asdict(self)


class DataVersionManager:
    """Snapshots of `<base_path>/processed`; the caller holds the writer lock.

    The cache lies in `cache` (default `<base_path>/.dvc/cache`); DVC runs without Git, and its
    remotes work on this repository as on any other.
    """

    def __init__(
        self,
        base_path: str | Path,
        cache: Path | None = None,
        after_restore: Callable[[], None] | None = None,
    ) -> None:
        self._base = Path(base_path).absolute()
        self._cache = cache or self._base / ".dvc" / "cache"
        self._after_restore = after_restore
        self._tags = self._base / ".snapshots"

    def create_data_snapshot(self, version_tag: str) -> Snapshot:
        """Name the present state; a tag of the same state is kept as it is.

        Raises:
            SnapshotNotFoundError: there is no table to snapshot.
            ValueError: the tag is malformed or names another state already.
        """
        if not _TAG.fullmatch(version_tag):
            message = (
                f"{version_tag[:100]!r} is no tag: letters, digits, '.', '_', '-'; at most 100"
            )
            raise ValueError(message)
        tree, size = self._add()
        if (path := self._path(version_tag)).exists():
            found = self._read(path)
            if found.tree == tree:
                return found
            message = f"snapshot {version_tag} exists and names another state; choose a new tag"
            raise ValueError(message)
        created = datetime.now(UTC).isoformat(timespec="seconds")
        made = Snapshot(version_tag, created, tree, size, self._files(tree))
        self._tags.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".partial")
        beside.write_text(json.dumps(made.to_json(), indent=1))
        beside.replace(path)
        return made

    def current_or_new(self) -> str:
        """The tag of the present state; a state without one gets time and hash as its tag."""
        tree, _ = self._add()
        known = [found.tag for found in self.list_snapshots() if found.tree == tree]
        if known:
            return known[-1]
        tag = f"{datetime.now(UTC):%Y-%m-%d}-{tree[:8]}"
        return self.create_data_snapshot(tag).tag

    def restore_data_version(self, version_tag: str) -> str:
        """Bring back the same bytes; return the tag under which the present state was saved.

        Raises:
            SnapshotNotFoundError: no such tag.
        """
        wanted = self.get(version_tag)
        saved = self.create_data_snapshot(f"before-restore-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}")
        self._write_pointer(wanted)
        with holding(self._base):
            self._dvc("checkout", [self._pointer], force=True)
        if self._after_restore is not None:
            self._after_restore()
        return saved.tag

    def list_snapshots(self) -> list[Snapshot]:
        """All snapshots, newest first."""
        found = [self._read(path) for path in self._tags.glob("*.json")]
        return sorted(found, key=lambda each: (each.created_at, each.tag), reverse=True)

    def get(self, version_tag: str) -> Snapshot:
        """One snapshot.

        Raises:
            SnapshotNotFoundError: no such tag.
        """
        if not _TAG.fullmatch(version_tag) or not self._path(version_tag).exists():
            message = f"no snapshot {version_tag[:100]!r}; `movie-mlops snapshot list` names them"
            raise SnapshotNotFoundError(message)
        return self._read(self._path(version_tag))

    def diff(self, old: str, new: str) -> dict[str, list[str]]:
        """Paths added, removed and changed from one snapshot to the other."""
        before, after = self.get(old).files, self.get(new).files
        return {
            "added": sorted(after.keys() - before.keys()),
            "removed": sorted(before.keys() - after.keys()),
            "changed": sorted(
                path for path in after.keys() & before.keys() if after[path] != before[path]
            ),
        }

    @property
    def _pointer(self) -> str:
        return str(self._base / f"{TABLES_FOLDER}.dvc")

    @cached_property
    def _repo(self) -> Any:
        from dvc.repo import Repo  # noqa: PLC0415 (seconds to import)

        if not (self._base / ".dvc").is_dir():
            logging.getLogger("dvc").setLevel(logging.WARNING)  # it greets
            Repo.init(str(self._base), no_scm=True).close()
        repo = Repo(str(self._base))
        with repo.config.edit("local") as config:
            config["cache"]["dir"] = str(self._cache)
            config["core"]["analytics"] = False
        repo.close()
        return Repo(str(self._base))

    def _dvc(self, verb: str, *arguments: Any, **named: Any) -> Any:
        from dvc.exceptions import DvcException  # noqa: PLC0415 (seconds to import)

        try:
            return getattr(self._repo, verb)(*arguments, **named)
        except DvcException as error:
            message = f"DVC could not {verb}: {error}"
            raise EngineUnavailableError(message) from error

    def _add(self) -> tuple[str, int]:
        """Bring the present state into the cache; its tree hash and size in bytes."""
        tables = self._base / TABLES_FOLDER
        if not tables.is_dir() or not any(tables.iterdir()):
            message = f"{tables} holds no table yet; `movie-mlops run data_collection` fills it"
            raise SnapshotNotFoundError(message)
        with holding(self._base):  # DVC reads a file twice: it must not vanish in between
            (stage,) = self._dvc("add", [str(tables)])
        out = stage.outs[0]
        return str(out.hash_info.value), int(out.meta.size or 0)

    def _files(self, tree: str) -> dict[str, str]:
        listing = self._cache / "files" / "md5" / tree[:2] / tree[2:]
        return {entry["relpath"]: entry["md5"] for entry in json.loads(listing.read_text())}

    def _write_pointer(self, wanted: Snapshot) -> None:
        lines = ["outs:", f"- md5: {wanted.tree}", f"  size: {wanted.size}"]
        lines += [f"  nfiles: {len(wanted.files)}", "  hash: md5", f"  path: {TABLES_FOLDER}"]
        Path(self._pointer).write_text("\n".join(lines) + "\n")

    def _path(self, tag: str) -> Path:
        return self._tags / f"{tag}.json"

    @staticmethod
    def _read(path: Path) -> Snapshot:
        return Snapshot(**json.loads(path.read_text()))
