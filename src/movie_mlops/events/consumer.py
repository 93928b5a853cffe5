"""The loop of a consumer group: handler table, retries, dead letters."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from movie_mlops.domain.errors import EngineUnavailableError, EventConflictError, EventError
from movie_mlops.events.base import EventLog, Place, Record, Standing, next_positions
from movie_mlops.events.redelivery import opened
from movie_mlops.events.schemas import DEAD_LETTERS, DeadLetter, Redelivered, decode, encode
from movie_mlops.monitoring import metrics

Handler = Callable[[Any, Record], None]
"""Takes the decoded event and its record. Delivery is at least once: twice must do no harm."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ConsumerOptions:
    """`keeps_dead_letters` is off where a group per replica would write each of them again."""

    batch: int = 500
    commit_seconds: float = 0.0
    longest_wait_seconds: float = 10.0
    keeps_dead_letters: bool = True


class Consumer:
    """Hands events to handlers by class, then commits.

    An engine that is unavailable is waited for, however long it takes, and nothing is skipped.
    Every other error, and an event without schema, goes to `dead-letters` with its reason and
    the group goes on; so does another event under an id that came before. The same event again
    is not handled again. An event whose class has no handler is passed over.
    """

    def __init__(
        self,
        log: EventLog,
        group: str,
        topics: tuple[str, ...],
        handlers: Mapping[type, Handler],
        options: ConsumerOptions | None = None,
    ) -> None:
        self.group, self.topics = group, topics
        self._log, self._handlers = log, dict(handlers)
        self._options = options or ConsumerOptions()
        self._stop = threading.Event()
        self._uncommitted: dict[Place, int] = {}
        self._committed_at = time.monotonic()
        for topic in topics:
            metrics.DEAD_LETTERS.labels(topic, group)  # the series start at zero

    def run(self) -> None:
        """Handle events until `stop`; an unavailable log is waited for too."""
        while not self._stop.is_set():
            try:
                self.run_once(0.2)
            except EngineUnavailableError as error:
                _LOG.warning("group %s waits: %s", self.group, error)
                self._stop.wait(error.retry_after_seconds)
        try:
            self.commit()
        except EngineUnavailableError as error:
            _LOG.warning(
                "group %s ends without its commit, events come again: %s", self.group, error
            )

    def run_once(self, wait_seconds: float = 0.0) -> int:
        """Handle one batch and return its size.

        Raises:
            EngineUnavailableError: the log does not answer; call again.
        """
        records = self._log.poll(self.group, self.topics, self._options.batch, wait_seconds)
        for record in records:
            if not self._handle(record):
                break  # stopped while waiting: what was not handled is not committed
            self._uncommitted |= next_positions((record,))
        if time.monotonic() - self._committed_at >= self._options.commit_seconds:
            self.commit()
        return len(records)

    def commit(self) -> None:
        """Commit what was handled and show the lag."""
        if self._uncommitted:
            self._log.commit(self.group, self._uncommitted)
            self._uncommitted = {}
            for topic, behind in self._log.lag(self.group, self.topics).items():
                metrics.EVENT_LAG.labels(self.group, topic).set(behind)
        self._committed_at = time.monotonic()

    def stop(self) -> None:
        """Let `run` return after the event at hand."""
        self._stop.set()

    def _handle(self, record: Record) -> bool:
        wait = 0.05
        while True:
            try:
                self._dispatch(record)
            except EngineUnavailableError as error:
                _LOG.warning("group %s waits at %s: %s", self.group, record.position, error)
                if self._stop.wait(max(wait, error.retry_after_seconds)):
                    return False
                wait = min(2 * wait, self._options.longest_wait_seconds)
            else:
                return True

    def _dispatch(self, record: Record) -> None:
        try:
            if count_repeat(record, self.group):
                return
            event = decode(record)
            if isinstance(event, Redelivered):
                if event.group != self.group:
                    return  # it could handle it
                record = opened(event, record)
                event = decode(record)
            handler = self._handlers.get(type(event))
            if handler is not None:
                handler(event, record)
        except EngineUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 (poison must not stop the group)
            self._bury(record, f"{type(error).__name__}: {error}")

    def _bury(self, record: Record, reason: str) -> None:
        metrics.DEAD_LETTERS.labels(record.position.topic, self.group).inc()
        _LOG.error("group %s cannot handle %s: %s", self.group, record.position, reason)
        if not self._options.keeps_dead_letters or record.position.topic == DEAD_LETTERS:
            return
        try:
            self._write_letter(record, record.body.decode(errors="replace"), reason)
        except EventError as error:
            self._write_letter(record, "", f"{reason} (its body stays where it is: {error})")

    def _write_letter(self, record: Record, body: str, reason: str) -> None:
        letter = DeadLetter(
            position=str(record.position),
            group=self.group,
            event_id=record.event_id,
            key=record.key,
            type=record.type,
            body=body,
            reason=reason[:2000],
        )
        event_id = f"{self.group}:{record.position}"
        # the same letter again (killed before the commit) is a duplicate whatever its reason says
        self._log.publish(
            DEAD_LETTERS, [encode(letter, event_id, fingerprint=event_id.encode()[:64])]
        )


def count_repeat(record: Record, group: str) -> bool:
    """Whether this is the same event again, which is counted and not handled.

    Raises:
        EventConflictError: it is another event under an id that came before; counted too.
    """
    if record.standing is Standing.FIRST:
        return False
    metrics.EVENTS_REPEATED.labels(record.position.topic, group, record.standing).inc()
    if record.standing is Standing.CONFLICT:
        message = f"event id {record.event_id!r} was used before for another event"
        raise EventConflictError(message)
    return True
