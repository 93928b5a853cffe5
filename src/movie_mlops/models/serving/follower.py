"""Keeps one process's histories in step with the event log, and with new snapshots of them."""

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from movie_mlops.domain.errors import ArtifactCorruptError, EngineUnavailableError
from movie_mlops.domain.versions import Alias
from movie_mlops.events import EventLog
from movie_mlops.events.base import Place, Position, Positions, Record
from movie_mlops.events.consumer import count_repeat
from movie_mlops.events.erased import ErasedUsers
from movie_mlops.events.redelivery import opened
from movie_mlops.events.schemas import (
    USER_EVENTS,
    Redelivered,
    UserInteractionEvent,
    decode,
    to_interaction,
)
from movie_mlops.models.bundle import load_bundle, save_bundle
from movie_mlops.models.manifest import Entry, point
from movie_mlops.models.serving.histories import Histories
from movie_mlops.models.serving.model_loader import ModelLoader, bundle_folder
from movie_mlops.monitoring import metrics

HISTORIES = "histories"
"""The manifest's entry that names the histories to start from."""
_BATCH = 2_000
_LOOK_SECONDS = 0.05  # between two looks: many events in one go cost the serving thread least
_SILENT_SECONDS = 0.5  # a log that gives nothing so long is asked whether it has something
_COMMIT_SECONDS = 5.0  # its offsets are for the lag only: a restart begins at the snapshot
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

    They start from those that the manifest names; when it names others, they start again. The
    group is set to where they stand before its first poll, so it reads every partition alone:
    on Kafka too a replica needs nobody's leave, nor the time-out of one that was killed, and
    replicas of several machines may bear one name (its offsets are shown, never started from).
    """

    def __init__(
        self,
        histories: Histories,
        log: EventLog,
        loader: ModelLoader,
        serving: Path,
        group: str,
        erased: ErasedUsers | None = None,
    ) -> None:
        self._histories, self._log, self._loader = histories, log, loader
        self._serving, self._erased = serving, erased
        self.group = group
        self._entry: Entry | None = None
        self.problem = ""
        self._caught_up = False
        self._uncommitted: dict[Place, int] = {}
        self._committed_at = time.monotonic()
        self._lost = metrics.DEAD_LETTERS.labels(USER_EVENTS, group)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="histories", daemon=True)

    def catch_up(self) -> None:
        """Load the named histories and apply every event that is in the log now.

        Raises:
            EngineUnavailableError: the log does not answer.
        """
        self._take_snapshot()
        if self._erased is not None:
            self._erased.look()
        ends = self._log.end_positions([USER_EVENTS])
        reached = self._histories.reached
        self._log.seek(self.group, {place: reached.get(place, 0) for place in ends})
        heard_at = time.monotonic()
        while self._is_behind(ends) and not self._stop.is_set():
            if self._read_on(wait_seconds=0.1):
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > _SILENT_SECONDS:
                self._tick_off_expired(ends)
                heard_at = time.monotonic()
        self._commit()
        self._caught_up = True

    def start(self) -> None:
        """Catch up, then follow in a thread of its own until `stop`.

        Where the log does not answer, lists are made from the named histories until it does.
        """
        try:
            self.catch_up()
        except EngineUnavailableError as error:
            _LOG.warning("histories are those of the last snapshot: %s", error)
        self._thread.start()

    def stop(self) -> None:
        """Stop following."""
        self._stop.set()
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
                if not self._caught_up:
                    self.catch_up()
                self._take_snapshot()
                if self._read_on() < _BATCH:
                    self._stop.wait(_LOOK_SECONDS)
            except EngineUnavailableError as error:
                _LOG.warning("histories wait: %s", error)
                self._stop.wait(error.retry_after_seconds)
            except Exception:  # noqa: BLE001 (following goes on whatever one event did)
                _LOG.exception("histories could not follow the log")
                self._stop.wait(1.0)

    def _is_behind(self, ends: Positions) -> bool:
        reached = self._histories.reached
        return any(reached.get(place, 0) < end for place, end in ends.items())

    def _tick_off_expired(self, ends: Positions) -> None:
        """What retention has removed never comes: go on at the oldest event that there is."""
        reached = self._histories.reached
        for place, end in ends.items():
            known = reached.get(place, 0)
            if known < end:
                oldest = self._log.read(place, known, 1)
                there = min(oldest[0].position.offset, end) if oldest else end
                if there > known:
                    _LOG.error("histories miss %d events of %s:%d", there - known, *place)
                    self._histories.advance(Position(*place, there - 1))

    def _read_on(self, wait_seconds: float = 0.0) -> int:
        """Take the next events in; of those that this process took itself few are read at all."""
        own = self._histories.pass_own()
        self._log.skip(self.group, own)
        self._uncommitted |= own
        records = self._log.poll(self.group, (USER_EVENTS,), _BATCH, wait_seconds)
        applied = []
        for record in records:
            if not self._histories.has_applied(record.position):
                self._apply(self._histories, record)
                applied.append(record.published_at)
        if self._thread.is_alive() and applied:  # what was there before the start took no time
            now = time.time()
            metrics.EVENT_TO_LIST_SECONDS.observe_many([max(now - at / 1e6, 0) for at in applied])
        self._uncommitted |= self._reach(self._histories, records)
        if time.monotonic() - self._committed_at >= _COMMIT_SECONDS:
            self._commit()
        return len(records)

    def _commit(self) -> None:
        if self._uncommitted:
            self._log.commit(self.group, self._uncommitted)
            self._uncommitted = {}
        metrics.EVENT_LAG.labels(self.group, USER_EVENTS).set(self.lag())
        self._committed_at = time.monotonic()

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
        if self._erased is not None:
            self._erased.look()  # an erasure names new histories after it noted who it is
        start = fresh.reached
        for place, until in self._histories.reached.items():
            offset = start.get(place, 0)
            while offset < until:
                records = self._log.read(place, offset, min(_BATCH, until - offset))
                if not records:
                    break
                for record in records:
                    self._apply(fresh, record)
                self._reach(fresh, records)
                offset = records[-1].position.offset + 1

    @staticmethod
    def _reach(histories: Histories, records: Sequence[Record]) -> dict[Place, int]:
        """Note that these were applied; what to commit. They are in order in each partition."""
        last = {record.position[:2]: record.position for record in records}
        histories.advance_all(last.values())
        return {Place(*place): position.offset + 1 for place, position in last.items()}

    def _apply(self, histories: Histories, record: Record) -> None:
        try:
            if count_repeat(record, self.group):
                return
            event = decode(record)
            if isinstance(event, Redelivered):  # what this group had already changes nothing
                record = opened(event, record)
                event = decode(record)
        except Exception as error:  # noqa: BLE001 (the worker's group writes the dead letter)
            self._lost.inc()
            _LOG.warning("group %s cannot read %s: %r", self.group, record.position, error)
            return
        if isinstance(event, UserInteractionEvent) and not self._hides(event, record.position):
            interaction = to_interaction(event, record.event_id)
            histories.apply(interaction, record.position, in_order=True)

    def _hides(self, event: UserInteractionEvent, position: Position) -> bool:
        return self._erased is not None and self._erased.hides(event.user_id, position)
