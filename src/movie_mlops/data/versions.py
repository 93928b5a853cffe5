"""Snapshots of the tables: tags, manifest and diff of ours over DVC's content-addressed cache."""

import hashlib
import json
import logging
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from movie_mlops.data.files import holding, replacing
from movie_mlops.data.lake import Lake
from movie_mlops.domain.errors import EngineUnavailableError, SnapshotNotFoundError

TABLES_FOLDER = "processed"
Change = Callable[[str, Path, Path], int]
"""Takes a path below the tables' folder, its file, and where to write what shall stand for it;
returns how many rows were taken out, 0 when nothing was written."""
_md5 = partial(hashlib.md5, usedforsecurity=False)
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One immutable state; `files` maps a path below the tables' folder to its MD5.

    `erased_at` is when a viewer's rows were last taken out of it; empty: it is as it was made.
    """

    tag: str
    created_at: str
    tree: str
    size: int
    files: dict[str, str]
    erased_at: str = ""

    def to_json(self) -> dict[str, Any]:
        """This snapshot as JSON."""
        return asdict(self)


class DataVersionManager:
    """Snapshots of `<base_path>/processed`; the caller holds the writer lock.

    The cache lies in `cache` (default `<base_path>/.dvc/cache`); DVC runs without Git, and its
    remotes work on this repository as on any other. `lake` is the one at `base_path`, for what
    else it does when a file is written.
    """

    def __init__(
        self,
        base_path: str | Path,
        cache: Path | None = None,
        after_restore: Callable[[], None] | None = None,
        lake: Lake | None = None,
    ) -> None:
        self._base = Path(base_path).absolute()
        self._lake = lake or Lake(self._base)
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
        self._write_tag(made)
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

        Each file changes at once, not all of them together.

        Raises:
            SnapshotNotFoundError: no such tag.
            EngineUnavailableError: the cache lacks a file of it (no table was changed then), or
                holds another in its place.
        """
        wanted = self.get(version_tag)
        saved = self.create_data_snapshot(f"before-restore-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}")
        with holding(self._base):
            self._bring_back(wanted)
        self._write_pointer(wanted)
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

    @contextmanager
    def opened(self, version_tag: str) -> Iterator[Lake]:
        """A lake that has the tables of a snapshot; reading only, gone after the block.

        Raises:
            SnapshotNotFoundError: no such tag.
        """
        found = self.get(version_tag)
        with tempfile.TemporaryDirectory() as folder:  # links: it never holds a row itself
            lake = Lake(Path(folder))
            for path, digest in found.files.items():
                target = lake.processed / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(self._object(digest))
            yield lake

    def rewrite(self, change: Change, at: str) -> dict[str, int]:
        """Put every file of every snapshot through `change`; tag to the rows that were taken out.

        What changed is marked with the time `at`; objects of the cache that no snapshot has are
        removed. Again: does the rest.
        """
        counts: dict[str, int] = {}
        known: dict[tuple[str, str], tuple[str, int]] = {}
        for found in self.list_snapshots():
            files = {}
            for path, digest in found.files.items():
                if (path, digest) not in known:
                    known[path, digest] = self._changed(change, path, digest)
                files[path], gone = known[path, digest]
                counts[found.tag] = counts.get(found.tag, 0) + gone
            if files != found.files:
                tree = self._write_tree(files)
                size = sum(self._object(digest).stat().st_size for digest in files.values())
                self._write_tag(replace(found, tree=tree, size=size, files=files, erased_at=at))
        self._remove_unnamed()
        return {tag: gone for tag, gone in counts.items() if gone}

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

    def _bring_back(self, wanted: Snapshot) -> None:
        for path, digest in wanted.files.items():
            if not self._object(digest).is_file():
                message = f"the cache lacks {path} of {wanted.tag}; `dvc fetch` if a remote has it"
                raise EngineUnavailableError(message)
        tables = self._base / TABLES_FOLDER
        for path, digest in wanted.files.items():
            target = tables / path
            if target.is_file() and _digest(target) == digest:
                continue
            with self._lake.replacing(target) as partial:
                shutil.copyfile(self._object(digest), partial)
                if _digest(partial) != digest:
                    message = f"the cache's {path} of {wanted.tag} is damaged; the table stays"
                    raise EngineUnavailableError(message)
        for target in [path for path in tables.rglob("*") if path.is_file()]:
            if target.relative_to(tables).as_posix() not in wanted.files:
                self._lake.remove(target)

    def _add(self) -> tuple[str, int]:
        """Bring the present state into the cache; its tree hash and size in bytes."""
        self._lake.pull(TABLES_FOLDER)
        tables = self._base / TABLES_FOLDER
        if not tables.is_dir() or not any(tables.iterdir()):
            message = f"{tables} holds no table yet; `movie-mlops run data_collection` fills it"
            raise SnapshotNotFoundError(message)
        with holding(self._base):  # DVC reads a file twice: it must not vanish in between
            (stage,) = self._dvc("add", [str(tables)])
        out = stage.outs[0]
        return str(out.hash_info.value), int(out.meta.size or 0)

    def _object(self, digest: str) -> Path:
        return self._cache.absolute() / "files" / "md5" / digest[:2] / digest[2:]

    def _files(self, tree: str) -> dict[str, str]:
        listing = self._object(tree).read_text()
        return {entry["relpath"]: entry["md5"] for entry in json.loads(listing)}

    def _changed(self, change: Change, path: str, digest: str) -> tuple[str, int]:
        """The object in place of this one, and how many rows less it has."""
        beside = self._cache / "rewriting"
        gone = change(path, self._object(digest), beside)
        if not gone:
            return digest, 0
        made = _digest(beside)
        self._object(made).parent.mkdir(parents=True, exist_ok=True)
        beside.chmod(0o444)
        beside.replace(self._object(made))
        return made, gone

    def _write_tree(self, files: Mapping[str, str]) -> str:
        """Write DVC's object of a folder; its name."""
        entries = [{"md5": digest, "relpath": path} for path, digest in sorted(files.items())]
        text = json.dumps(entries, sort_keys=True).encode()
        tree = f"{_md5(text).hexdigest()}.dir"
        with replacing(self._object(tree)) as beside:
            beside.write_bytes(text)
        return tree

    def _remove_unnamed(self) -> None:
        """Remove what no snapshot has: what was replaced, and states that were never named."""
        for name in ("rewriting", ".rewriting.partial"):
            (self._cache / name).unlink(missing_ok=True)
        snapshots = self.list_snapshots()
        named = {found.tree for found in snapshots}
        named |= {digest for found in snapshots for digest in found.files.values()}
        for path in (self._cache / "files" / "md5").glob("*/*"):
            if path.parent.name + path.name not in named:
                path.unlink()
        Path(self._pointer).unlink(missing_ok=True)  # it may name a state that is gone

    def _write_tag(self, snapshot: Snapshot) -> None:
        path = self._path(snapshot.tag)
        self._tags.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".partial")
        beside.write_text(json.dumps(snapshot.to_json(), indent=1))
        beside.replace(path)

    def _write_pointer(self, wanted: Snapshot) -> None:
        lines = ["outs:", f"- md5: {wanted.tree}", f"  size: {wanted.size}"]
        lines += [f"  nfiles: {len(wanted.files)}", "  hash: md5", f"  path: {TABLES_FOLDER}"]
        Path(self._pointer).write_text("\n".join(lines) + "\n")

    def _path(self, tag: str) -> Path:
        return self._tags / f"{tag}.json"

    @staticmethod
    def _read(path: Path) -> Snapshot:
        return Snapshot(**json.loads(path.read_text()))


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, _md5).hexdigest()
