"""The file that says which bundle is champion and which challenger; swapped atomically.

One entry per registered model: `champion`, `challenger`, the stack of `previous` champions, and how
far a challenger is let in (`trial`).
Serving watches this file and nothing else.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from movie_mlops.domain.errors import ArtifactCorruptError, ModelVersionNotFoundError
from movie_mlops.domain.versions import Alias

MANIFEST = "manifest.json"
KEPT_PREVIOUS = 10
KEPT_UNSERVED = 3


@dataclass(frozen=True, slots=True)
class Entry:
    """One served version; `path` is relative to the serving folder."""

    version: str
    path: str
    card_sha256: str
    snapshot: str
    algorithm: str


@dataclass(frozen=True, slots=True)
class TrialStage:
    """How far the challenger is let in: unseen beside (`shadow`) or to some viewers (`canary`).

    `share` is of lists or of viewers; the two others are those of the canary's A/B test.
    """

    stage: Literal["shadow", "canary"]
    share: float
    attribution_minutes: float = 60.0
    alpha: float = 0.05


@dataclass(frozen=True, slots=True)
class Served:
    """What one registered model serves."""

    champion: Entry | None = None
    challenger: Entry | None = None
    previous: tuple[Entry, ...] = field(default=())
    trial: TrialStage | None = None


def manifest_path(serving: Path) -> Path:
    """Where the manifest of a serving folder lies."""
    return serving / MANIFEST


def read_manifest(serving: Path) -> dict[str, Served]:
    """Model name to what it serves; empty before the first promotion.

    Raises:
        ArtifactCorruptError: the file is not a manifest.
    """
    try:
        raw = json.loads(manifest_path(serving).read_text())
        return {name: _served(value) for name, value in raw["models"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"{manifest_path(serving)} cannot be read: {error}"
        raise ArtifactCorruptError(message) from error


def point(serving: Path, model: str, alias: Alias, entry: Entry | None) -> Served:
    """Let an alias name this bundle; the champion before it goes on the stack."""
    with _changing(serving) as models:
        old = models.get(model, Served())
        if alias is Alias.CHALLENGER:
            new = Served(old.champion, entry, old.previous)
        else:
            stack = (old.champion, *old.previous) if old.champion else old.previous
            same = old.challenger is not None and old.challenger == entry
            new = Served(entry, None if same else old.challenger, stack[:KEPT_PREVIOUS])
        models[model] = new
    return new


def let_in(serving: Path, model: str, version: str, trial: TrialStage | None) -> Served:
    """Say how far the challenger of this version is let in; None: not at all.

    Raises:
        ModelVersionNotFoundError: the challenger is another one by now.
    """
    with _changing(serving) as models:
        old = models.get(model, Served())
        _check_challenger(old, model, version)
        models[model] = new = replace(old, trial=trial)
    return new


def withdraw(serving: Path, model: str, version: str) -> Served:
    """Let nothing be challenger any more.

    Raises:
        ModelVersionNotFoundError: the challenger is another one by now.
    """
    with _changing(serving) as models:
        old = models.get(model, Served())
        _check_challenger(old, model, version)
        models[model] = new = replace(old, challenger=None, trial=None)
    return new


def replace_all(serving: Path, model: str, entry: Entry) -> None:
    """Let this entry stand alone in the place of all that the manifest had of this name."""
    with _changing(serving) as models:
        models[model] = Served(entry)


def roll_back(serving: Path, model: str) -> Served:
    """Make the previous champion champion again; the present one is forgotten here.

    Raises:
        ModelVersionNotFoundError: there is no previous champion.
    """
    with _changing(serving) as models:
        old = models.get(model, Served())
        if not old.previous:
            message = f"{model} has no previous champion to roll back to"
            raise ModelVersionNotFoundError(message)
        new = replace(old, champion=old.previous[0], previous=old.previous[1:])
        models[model] = new
    return new


def forget_unserved(serving: Path, model: str, kept: int = KEPT_UNSERVED) -> list[Path]:
    """Remove bundles that the manifest no longer names, all but the newest; return them.

    The newest stay for a replica that is just reading the manifest before this one.
    """
    served = read_manifest(serving).get(model, Served())
    entries = (served.champion, served.challenger, *served.previous)
    named = {serving / entry.path for entry in entries if entry is not None}
    folders = [path for path in (serving / model).glob("*") if path not in named]
    return remove_oldest(folders, kept)


def remove_oldest(folders: list[Path], kept: int) -> list[Path]:
    """Remove all but the newest of these folders; return what was removed."""
    newest_first = sorted(folders, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for folder in newest_first[kept:]:
        shutil.rmtree(folder, ignore_errors=True)
    return newest_first[kept:]


@contextmanager
def _changing(serving: Path) -> Iterator[dict[str, Served]]:
    serving.mkdir(parents=True, exist_ok=True)
    with (serving / "manifest.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        models = read_manifest(serving)
        yield models
        body = {"models": {name: asdict(served) for name, served in sorted(models.items())}}
        beside = serving / f".{MANIFEST}.{os.getpid()}"
        with beside.open("w") as stream:
            json.dump(body, stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(manifest_path(serving))


def _served(raw: dict[str, Any]) -> Served:
    def entry(value: dict[str, str] | None) -> Entry | None:
        return Entry(**value) if value else None

    previous = tuple(Entry(**value) for value in raw["previous"])
    trial = TrialStage(**raw["trial"]) if raw.get("trial") else None
    return Served(entry(raw["champion"]), entry(raw["challenger"]), previous, trial)


def _check_challenger(served: Served, model: str, version: str) -> None:
    if served.challenger is None or served.challenger.version != version:
        message = f"{model} v{version} is not the challenger"
        raise ModelVersionNotFoundError(message)
