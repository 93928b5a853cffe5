"""Where an answer came from: model, run, snapshot, code, and the history that was known."""

import json
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from movie_mlops.data.versions import DataVersionManager
from movie_mlops.domain.errors import (
    EngineUnavailableError,
    EventError,
    ModelVersionNotFoundError,
    SnapshotNotFoundError,
    TraceNotFoundError,
)
from movie_mlops.events.base import parse_position
from movie_mlops.models.bundle import CARD
from movie_mlops.models.registry import ModelRegistry
from movie_mlops.models.serving.exposures import ExposureLog, Shown
from movie_mlops.models.serving.knowledge import Knowledge, source_rows

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tracing:
    """What it needs; nothing is changed."""

    exposures: ExposureLog
    registry: ModelRegistry
    snapshots: DataVersionManager
    knowledge: Knowledge
    serving: Path

    def trace(self, request_id: str, user_id: str | None = None) -> Json:
        """All that made the answer, as JSON; of several viewers' answers this viewer's.

        Raises:
            TraceNotFoundError: no answer is known under this id (any more).
            EngineUnavailableError: exposures or log do not answer.
        """
        found = self.exposures.find(request_id, user_id)
        if found is None:
            message = (
                f"no answer is known under {request_id!r}; the latest million of the last 24 "
                "hours are, without those to viewers who were erased"
            )
            raise TraceNotFoundError(message)
        shown = found.shown
        card = self._card(shown)
        return {
            "request_id": found.request_id,
            "time": datetime.fromtimestamp(found.at_ms / 1000, UTC).isoformat(),
            "kind": shown.kind,
            "user_id": shown.user_id or None,
            "path": shown.path or None,
            "model": shown.model,
            "model_version": shown.version,
            "run_id": self._run_id(shown),
            "algorithm": shown.algorithm or None,
            "card_sha256": shown.card_sha256 or None,
            "code": card.get("code"),
            "snapshot": self._snapshot(shown.snapshot),
            "history": self._history(shown),
            "items": self._titled(shown.items),
            "ratings": list(shown.ratings),
            "facts": shown.facts,
            "experiment": shown.experiment or None,
            "arm": shown.arm or None,
        }

    def _card(self, shown: Shown) -> Json:
        """The card of the version that answered; empty when no copy of it is left."""
        if not shown.card_sha256:
            return {}
        if (found := _if_same(self.serving / shown.model / shown.version, shown)) is not None:
            return found
        try:
            with tempfile.TemporaryDirectory() as folder:
                fetched = self.registry.fetch_bundle(shown.model, shown.version, Path(folder))
                return _if_same(fetched, shown) or {}
        except (ModelVersionNotFoundError, EngineUnavailableError):
            return {}

    def _run_id(self, shown: Shown) -> str | None:
        if not shown.version:
            return None
        try:
            return self.registry.get_model_metadata(shown.model, shown.version).run_id
        except (ModelVersionNotFoundError, EngineUnavailableError):
            return None

    def _snapshot(self, tag: str) -> Json | None:
        if not tag:
            return None
        try:
            found = self.snapshots.get(tag)
        except SnapshotNotFoundError:
            return {"tag": tag, "is_kept": False}
        return {
            "tag": tag,
            "is_kept": True,
            "created_at": found.created_at,
            "erased_at": found.erased_at or None,
        }

    def _history(self, shown: Shown) -> Json | None:
        """What was known of the viewer, made again from the log; None for a rating of nobody."""
        try:
            position = parse_position(shown.position)
        except EventError:
            return None
        try:
            with self.snapshots.opened(shown.snapshot) as frozen:
                source = source_rows(frozen)
        except SnapshotNotFoundError:
            source = source_rows(self.knowledge.lake)
        known = self.knowledge.at(shown.user_id, position, source)
        erasure = self.knowledge.erased.find(shown.user_id)
        return {
            "position": shown.position,
            "films": self._titled(known.films.tolist()),
            "hidden": known.hidden.tolist(),
            "erased_at": erasure.at if erasure is not None else None,
        }

    def _titled(self, films: tuple[int, ...] | list[int]) -> list[Json]:
        if not films:
            return []
        table = self.knowledge.lake.read("movies").select("movie_id", "title")
        titles: dict[int, str] = dict(table.iter_rows())
        return [{"movie_id": film, "title": titles.get(film)} for film in films]


def _if_same(folder: Path, shown: Shown) -> Json | None:
    """The card in a folder when it is the one that answered."""
    try:
        raw = (folder / CARD).read_bytes()
    except OSError:
        return None
    card: Json = json.loads(raw)
    return card if sha256(raw).hexdigest() == shown.card_sha256 else None
