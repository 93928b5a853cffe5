"""Reactions to events: every interaction goes into the lake, for features and training."""

import threading
import time
from typing import Any

import polars as pl

from movie_mlops.data.event_files import event_file_of
from movie_mlops.data.files import holding
from movie_mlops.data.lake import Lake
from movie_mlops.data.tables import INTERACTIONS
from movie_mlops.domain.errors import EngineUnavailableError
from movie_mlops.events import EventLog
from movie_mlops.events.base import Position, Record
from movie_mlops.events.consumer import Consumer, ConsumerOptions, Handler
from movie_mlops.events.erased import ErasedUsers
from movie_mlops.events.schemas import USER_EVENTS, UserInteractionEvent

GROUP = "worker"
FLUSH_SECONDS = 2.0
FLUSH_EVENTS = 5_000
ROWS_PER_FILE = 50_000
_NEVER = 1e12
_SCHEMA = {
    "event_id": pl.String(),
    "user_id": pl.String(),
    "movie_id": pl.Int64(),
    "interaction_type": pl.String(),
    "rating": pl.Float64(),
    "timestamp": INTERACTIONS.schema["timestamp"],
    "target_event_id": pl.String(),
    "offset": pl.Int64(),
}


class LakeWriter:
    """Consumer group `worker`: log to lake files, the file first, the commit after it.

    Killed in between, it writes the same positions again, which overwrites. Small files of a
    partition are merged, so their number grows with the events, not with time. Events of viewers
    who were erased after them are left out, also when they come again.
    """

    def __init__(self, log: EventLog, lake: Lake, erased: ErasedUsers | None = None) -> None:
        self._lake, self._erased = lake, erased
        self._rows: dict[int, list[dict[str, Any]]] = {}
        options = ConsumerOptions(batch=FLUSH_EVENTS, commit_seconds=_NEVER)
        handlers: dict[type, Handler] = {UserInteractionEvent: self._keep}
        self._consumer = Consumer(log, GROUP, (USER_EVENTS,), handlers, options)
        self._stop = threading.Event()

    def run(self) -> None:
        """Write until `stop`; what the log or disk refuses is tried again."""
        flushed = time.monotonic()
        while not self._stop.is_set():
            try:
                self._consumer.run_once(0.2)
                waiting = sum(map(len, self._rows.values()))
                if waiting >= FLUSH_EVENTS or time.monotonic() - flushed >= FLUSH_SECONDS:
                    self.flush()
                    flushed = time.monotonic()
            except EngineUnavailableError as error:
                self._stop.wait(error.retry_after_seconds)
        self.flush()

    def run_once(self) -> int:
        """Take one batch, write it, commit; the number of events seen."""
        seen = self._consumer.run_once()
        self.flush()
        return seen

    def flush(self) -> None:
        """Write what was taken, then commit."""
        if self._rows:
            with holding(self._lake.root):
                if self._erased is not None:
                    self._erased.look()  # here: an erasure cleans the files while it holds them
                for partition, rows in self._rows.items():
                    kept = [row for row in rows if not self._hides(row, partition)]
                    if kept:
                        self._write(partition, pl.DataFrame(kept, schema=_SCHEMA))
            self._rows.clear()
        self._consumer.commit()

    def stop(self) -> None:
        """Let `run` write what it holds and return."""
        self._stop.set()
        self._consumer.stop()

    def _keep(self, event: UserInteractionEvent, record: Record) -> None:
        row = {name: getattr(event, name, None) for name in _SCHEMA}
        row |= {
            "event_id": record.event_id,
            "interaction_type": str(event.interaction_type),
            "offset": record.position.offset,
        }
        self._rows.setdefault(record.position.partition, []).append(row)

    def _hides(self, row: dict[str, Any], partition: int) -> bool:
        position = Position(USER_EVENTS, partition, row["offset"])
        return self._erased is not None and self._erased.hides(row["user_id"], position)

    def _write(self, partition: int, frame: pl.DataFrame) -> None:
        latest = self._lake.latest_event_file(USER_EVENTS, partition)
        first, last = frame["offset"].item(0), frame["offset"].item(-1)
        if latest is not None:
            before = pl.read_parquet(latest, memory_map=False, glob=False)
            if len(before) < ROWS_PER_FILE:
                frame = pl.concat([before, frame]).unique("offset", keep="last").sort("offset")
                if (held := event_file_of(latest.name)) is not None:  # rows may have been erased
                    first, last = min(first, held.first), max(last, held.last)
        self._lake.append_events(USER_EVENTS, partition, first, last, frame)
