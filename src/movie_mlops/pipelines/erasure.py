"""The right to be forgotten: one viewer's rows leave every store of a home, with a receipt."""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from movie_mlops.data.lake import Lake
from movie_mlops.data.versions import DataVersionManager
from movie_mlops.domain.versions import MOVIE_PREDICTOR
from movie_mlops.events import EventLog
from movie_mlops.events.erased import ErasedUsers, Erasure
from movie_mlops.events.schemas import TOPICS
from movie_mlops.events.sqlite_erasure import erase_events, shred
from movie_mlops.features.store import FeatureStore
from movie_mlops.models.bundle import load_bundle, save_bundle
from movie_mlops.models.manifest import Entry, Served, read_manifest, remove_oldest, replace_all
from movie_mlops.models.registry import ModelRegistry
from movie_mlops.models.serving import batch_lists, history_arrays
from movie_mlops.models.serving.ab_report import decode_definition
from movie_mlops.models.serving.experiment_store import ExperimentStore
from movie_mlops.models.serving.exposure_store import ExposureStore
from movie_mlops.models.serving.exposures import erase_exposures
from movie_mlops.models.serving.follower import HISTORIES, write_histories
from movie_mlops.models.serving.histories import Histories
from movie_mlops.pipelines.user_rows import UserRows

_SETTLE_SECONDS = 0.5  # by then API processes have written what they noted, and read the manifest
_FROM_FILMS_ALONE = (MOVIE_PREDICTOR,)

Without = Callable[[Mapping[str, NDArray[Any]], str], tuple[dict[str, NDArray[Any]], int]]


@dataclass(slots=True)
class Receipt:
    """What one erasure did; names the viewer by a hash that only this home can make.

    `removed` counts rows by what they were in. A step that was killed and made again counts what
    it still found. `snapshots` were rewritten, `models` were trained with the viewer's rows.
    """

    viewer: str
    asked_at: str
    finished_at: str = ""
    removed: dict[str, int] = field(default_factory=dict)
    snapshots: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    remains: list[str] = field(default_factory=list)

    def add(self, counts: Mapping[str, int]) -> None:
        """Add to what was removed."""
        for name, gone in counts.items():
            self.removed[name] = self.removed.get(name, 0) + gone


@dataclass(frozen=True, slots=True)
class ErasedFiles:
    """Files and folders; the first three are None where they are no SQLite files here."""

    events: Path | None
    exposures: Path | None
    online: Path | None
    work: Path
    receipts: Path


@dataclass(frozen=True, slots=True)
class UserErasure:
    """The steps and what they need; the caller holds the run lock.

    `keys` maps names of API keys to the viewers whom they are bound to.
    Each step finds what is left, so an erasure that was killed anywhere is finished by running it
    again; it has the same end.
    """

    erased: ErasedUsers
    log: EventLog
    lake: Lake
    snapshots: DataVersionManager
    features: FeatureStore
    registry: ModelRegistry
    serving: Path
    open_exposures: Callable[[], ExposureStore]
    files: ErasedFiles
    history_length: int
    retention: timedelta
    keys: Mapping[str, str]

    def erase(self, user_id: str, report: Callable[[str], object]) -> tuple[Receipt, Path]:
        """Remove the viewer from everything; the receipt and its file. Reports each step's name.

        Raises:
            EngineUnavailableError: a store does not answer; run it again.
        """
        noted = self.erased.begin(user_id, self.log.end_positions(list(TOPICS)))
        path = self._receipt_path(noted)
        receipt = (
            Receipt(**json.loads(path.read_text()))
            if path.exists()
            else Receipt(noted.name, noted.at)
        )
        for step in self.steps:
            report(step.__name__)
            receipt.add(step(user_id, noted))
            _write(path, receipt)
        tags = [found for found in self.snapshots.list_snapshots() if found.erased_at == noted.at]
        receipt.snapshots = sorted(found.tag for found in tags)
        receipt.models = self._trained_with(receipt.snapshots)
        receipt.remains = self._remains(user_id, noted)
        receipt.finished_at = datetime.now(UTC).isoformat(timespec="seconds")
        _write(path, receipt)
        self.erased.finish(noted)
        return receipt, path

    @property
    def steps(self) -> tuple[Callable[[str, Erasure], dict[str, int]], ...]:
        """In order: where rows come from first, so that nothing fills again what is empty."""
        return (
            self.empty_events,
            self.clean_tables,
            self.rewrite_snapshots,
            self.clean_features,
            self.clean_work,
            self.rewrite_histories,
            self.rewrite_batch_lists,
            self.clean_exposures,
            self.shred_files,
        )

    def empty_events(self, user_id: str, noted: Erasure) -> dict[str, int]:
        """Events, dead letters and redelivered ones in the embedded log become tombstones."""
        if self.files.events is None:
            return {}
        at = datetime.fromisoformat(noted.at)
        counts = erase_events(self.files.events, user_id, noted.ends, at)
        return {f"log {topic}": gone for topic, gone in counts.items()}

    def clean_tables(self, user_id: str, noted: Erasure) -> dict[str, int]:
        """Tables, event files, quarantine, feature files and predictions of the lake."""
        counts = UserRows(user_id, noted.ends).drop_from_lake(self.lake)
        return {f"lake {name}": gone for name, gone in counts.items()}

    def rewrite_snapshots(self, user_id: str, noted: Erasure) -> dict[str, int]:
        """Every snapshot."""
        counts = self.snapshots.rewrite(UserRows(user_id, noted.ends).drop, noted.at)
        return {"snapshots": sum(counts.values())}

    def clean_features(self, user_id: str, noted: Erasure) -> dict[str, int]:
        """The online store."""
        del noted
        return {"online features": self.features.erase("user", user_id)}

    def clean_work(self, user_id: str, noted: Erasure) -> dict[str, int]:
        """What pipelines leave for their next step."""
        return {"work": UserRows(user_id, noted.ends).drop_from_folder(self.files.work)}

    def rewrite_histories(self, user_id: str, noted: Erasure) -> dict[str, int]:
        """The histories that API processes start from; those that run start anew from these."""
        served = read_manifest(self.serving).get(HISTORIES)
        if served is None or served.champion is None:
            # what running processes know came from the log alone: let them read it again
            write_histories(self.serving, Histories(self.history_length), _stamp(noted))
            return {}
        return {"histories": self._rewrite(served, user_id, noted, history_arrays.without_user)}

    def rewrite_batch_lists(self, user_id: str, noted: Erasure) -> dict[str, int]:
        """The lists that are served when no model answers."""
        served = read_manifest(self.serving).get(batch_lists.BATCH_LISTS)
        if served is None or served.champion is None:
            return {}
        return {"batch lists": self._rewrite(served, user_id, noted, batch_lists.without_user)}

    def clean_exposures(self, user_id: str, noted: Erasure) -> dict[str, int]:
        """Who was shown what, and who was in an A/B test; in PostgreSQL, too."""
        del noted
        if self.files.exposures is not None and not self.files.exposures.exists():
            return {}
        time.sleep(_SETTLE_SECONDS)
        store = self.open_exposures()
        tests = ExperimentStore(store)
        try:
            gone = erase_exposures(store, user_id)
            subjects = {}
            for name in tests.names():
                definition = tests.definition(name)
                if definition is not None:
                    subjects[name] = decode_definition(definition).subject(user_id)
            users = tests.erase(subjects)
            store.forget_deleted()
            return {"exposures": gone, "test subjects": users}
        finally:
            store.close()

    def shred_files(self, user_id: str, noted: Erasure) -> dict[str, int]:
        """Leave no deleted byte in a database file or its write-ahead log."""
        del user_id, noted
        for path in (self.files.events, self.files.exposures, self.files.online):
            if path is not None:
                shred(path)
        return {}

    def _rewrite(self, served: Served, user_id: str, noted: Erasure, without: Without) -> int:
        """Put a bundle without the user in the champion's place; those before it go."""
        old = served.champion
        assert old is not None  # noqa: S101 (both callers have looked)
        arrays, card = load_bundle(self.serving / old.path, old.card_sha256)
        kept, gone = without(arrays, user_id)
        if card.get("erased_at") != noted.at:  # else it was done before a kill
            path = f"{Path(old.path).parent}/{old.version}-without-{_stamp(noted)}"
            sha256 = save_bundle(self.serving / path, kept, {**card, "erased_at": noted.at})
            entry = Entry(old.version, path, sha256, old.snapshot, old.algorithm)
            replace_all(self.serving, old.algorithm, entry)
        self._remove_unnamed(old.algorithm)
        return gone

    def _remove_unnamed(self, name: str) -> None:
        champion = read_manifest(self.serving)[name].champion
        folders = (self.serving / name).glob("*")
        named = None if champion is None else self.serving / champion.path
        remove_oldest([folder for folder in folders if folder != named], kept=0)

    def _trained_with(self, tags: Iterable[str]) -> list[str]:
        of_viewers = [m for m in self.registry.list_models() if m["name"] not in _FROM_FILMS_ALONE]
        versions = [version for model in of_viewers for version in model["latest_versions"]]
        return [f"{each.name} v{each.version}" for each in versions if each.snapshot in set(tags)]

    def _remains(self, user_id: str, noted: Erasure) -> list[str]:
        remains = [
            "models named here keep what they learnt; the next training is without these rows",
            "backups and other copies that were made of this home",
        ]
        if (self.lake.root / "raw" / "movielens").is_dir():
            remains.append(
                "data/raw holds the source as it was sent; no table takes this viewer from there"
            )
        remains += [
            f"API key {name} is bound to this viewer; `movie-mlops keys revoke {name}` removes it"
            for name, subject in self.keys.items()
            if subject == user_id
        ]
        if self.files.events is None:
            until = datetime.fromisoformat(noted.at) + self.retention
            remains.append(
                f"Kafka's records until {until:%Y-%m-%d %H:%M} UTC, when the worker trims the log "
                "(event_retention_days), or until the topics' own retention.ms if that is shorter; "
                "every reader of this home leaves them out"
            )
        if self.files.exposures is None:
            remains.append(
                "PostgreSQL's files and write-ahead log until it uses their room again: no query "
                "finds these rows; VACUUM FULL rewrites the tables of exposures at once"
            )
        return remains

    def _receipt_path(self, noted: Erasure) -> Path:
        return self.files.receipts / f"erasure-{_stamp(noted)}-{noted.name[:8]}.json"


def _stamp(noted: Erasure) -> str:
    return f"{datetime.fromisoformat(noted.at):%Y%m%dT%H%M%S.%f}"


def _write(path: Path, receipt: Receipt) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".partial")
    beside.write_text(json.dumps(asdict(receipt), indent=1))
    beside.replace(path)
