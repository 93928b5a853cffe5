"""Keeps one process's histories in step with the event log, and with new snapshots of them."""

import logging
import threading
from pathlib import Path

from movie_mlops.domain.errors import ArtifactCorruptError, EngineUnavailableError
from movie_mlops.domain.versions import Alias
from movie_mlops.events import EventLog
from movie_mlops.events.base import Record
from movie_mlops.events.consumer import Consumer, ConsumerOptions, Handler
from movie_mlops.events.schemas import USER_EVENTS, UserInteractionEvent, decode, to_interaction
from movie_mlops.models.bundle import load_bundle, save_bundle
from movie_mlops.models.manifest import Entry, point
from movie_mlops.models.serving.histories import Histories
from movie_mlops.models.serving.model_loader import ModelLoader, bundle_folder

HISTORIES = "histories"
"""The manifest's entry that names the histories to start from."""
_BATCH = 2_000
_LOG = logging.getLogger(__name__)


def write_histories(serving: Path, histories: Histories, version: str) -> Entry:
    """Write histories beside the bundles and let the manifest name them."""
    path = f"{HISTORIES}/{version}"
    sha256 = save_bundle(serving / path, *histories.to_arrays())
    entry = Entry(version, path, sha256, snapshot=version, algorithm=HISTORIES)
    point(serving, HISTORIES, Alias.CHAMPION, entry)
    return entry


class HistoriesFollower:
    """Feeds `histories` from the log as consumer group `group`; one per process.

    They start from those that the manifest names; when it names others, they start again.
    """

    def __init__(
        self, histories: Histories, log: EventLog, loader: ModelLoader, serving: Path, group: str
    ) -> None:
        self._histories, self._log, self._loader = histories, log, loader
        self._serving = serving
        self._entry: Entry | None = None
        self.problem = ""
        # its offsets are for the lag only: a restart begins at the snapshot's position
        options = ConsumerOptions(batch=_BATCH, commit_seconds=5.0, keeps_dead_letters=False)
        handlers: dict[type, Handler] = {UserInteractionEvent: self._on_interaction}
        self._consumer = Consumer(log, group, (USER_EVENTS,), handlers, options)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="histories", daemon=True)

    @property
    def group(self) -> str:
        """The consumer group of this process."""
        return self._consumer.group

    def catch_up(self) -> None:
        """Load the named histories and apply every event that is in the log now.

        Raises:
            EngineUnavailableError: the log does not answer.
        """
        self._take_snapshot()
        reached = self._histories.reached
        places = self._log.end_positions([USER_EVENTS])
        self._log.seek(self.group, {place: reached.get(place, 0) for place in places})
        while self._consumer.run_once():
            pass
        self._consumer.commit()

    def start(self) -> None:
        """Catch up, then follow in a thread of its own until `stop`."""
        self.catch_up()
        self._thread.start()

    def stop(self) -> None:
        """Stop following."""
        self._stop.set()
        self._consumer.stop()
        if self._thread.is_alive():
            self._thread.join()

    def lag(self) -> int:
        """Events in the log that are not in the histories yet."""
        reached = self._histories.reached
        ends = self._log.end_positions([USER_EVENTS])
        return sum(end - reached.get(place, 0) for place, end in ends.items())

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._take_snapshot()
                self._consumer.run_once(0.2)
            except EngineUnavailableError as error:
                _LOG.warning("histories wait: %s", error)
                self._stop.wait(error.retry_after_seconds)
            except Exception:  # noqa: BLE001 (following goes on whatever one event did)
                _LOG.exception("histories could not follow the log")
                self._stop.wait(1.0)

    def _take_snapshot(self) -> None:
        entry = self._loader.served(HISTORIES).champion
        if entry is None or entry == self._entry:
            return
        self._entry = entry
        try:
            arrays, card = load_bundle(bundle_folder(self._serving, entry), entry.card_sha256)
            fresh = Histories.from_arrays(arrays, card, self._histories.length)
        except ArtifactCorruptError as error:
            self.problem = f"{error}; the histories before it stay in place"
            _LOG.error("histories %s: %s", entry.version, error)
            return
        self._replay(fresh)
        self._histories.rebase(fresh)
        self.problem = ""

    def _replay(self, fresh: Histories) -> None:
        start = fresh.reached
        for place, until in self._histories.reached.items():
            offset = start.get(place, 0)
            while offset < until:
                records = self._log.read(place, offset, min(_BATCH, until - offset))
                if not records:
                    break
                for record in records:
                    _apply(fresh, record)
                offset = records[-1].position.offset + 1

    def _on_interaction(self, event: UserInteractionEvent, record: Record) -> None:
        self._histories.apply(to_interaction(event, record.event_id), record.position)
        self._histories.advance(record.position)


def _apply(histories: Histories, record: Record) -> None:
    try:
        event = decode(record)
    except Exception:  # noqa: BLE001 (the worker's group has written the dead letter)
        return
    if isinstance(event, UserInteractionEvent):
        histories.apply(to_interaction(event, record.event_id), record.position)
    histories.advance(record.position)
