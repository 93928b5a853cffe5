"""The guide's producer and consumer: typed events into the log, and out of it to handlers."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import ValidationError

from movie_mlops.domain.errors import EventError
from movie_mlops.domain.interactions import parse_user_id
from movie_mlops.domain.movies import parse_movie_id
from movie_mlops.events.base import EventLog, Published, Record
from movie_mlops.events.consumer import Consumer, Handler
from movie_mlops.events.schemas import (
    EVENT_TYPES,
    TOPICS,
    ModelDriftEvent,
    SystemHealthEvent,
    UserInteractionEvent,
    encode,
    topic_of,
)

_LOG = logging.getLogger(__name__)
_Event = TypeVar("_Event")


class MovieEventProducer:
    """Publishes durably; every method takes the event, or its fields by name.

    `event_id` makes a repeat a duplicate. Each raises EventError when the fields are no event,
    and what `EventLog.publish` raises.
    """

    def __init__(self, log: EventLog) -> None:
        self.log = log

    def send_user_interaction(
        self,
        event: UserInteractionEvent | None = None,
        *,
        event_id: str | None = None,
        **fields: Any,
    ) -> Published:
        """One act of a viewer; ids may be written as `user_3` and `movie_42`."""
        if event is None:
            for name, parse in (("user_id", parse_user_id), ("movie_id", parse_movie_id)):
                if name in fields:
                    fields[name] = parse(fields[name])
            event = _made(UserInteractionEvent, fields)
        return self._send(replace(event, user_id=parse_user_id(event.user_id)), event_id)

    def send_model_drift(
        self, event: ModelDriftEvent | None = None, *, event_id: str | None = None, **fields: Any
    ) -> Published:
        """A model's input or output drifts."""
        return self._send(event or _made(ModelDriftEvent, fields), event_id)

    def send_system_health(
        self, event: SystemHealthEvent | None = None, *, event_id: str | None = None, **fields: Any
    ) -> Published:
        """How a service is."""
        return self._send(event or _made(SystemHealthEvent, fields), event_id)

    def close(self) -> None:
        """Finish what was sent."""
        self.log.close()

    def _send(self, event: Any, event_id: str | None) -> Published:
        return self.log.publish(topic_of(event), [encode(event, event_id)])[0]


class MovieEventConsumer:
    """Hands every event of the topics to the handler of its class; by default it is logged."""

    def __init__(
        self,
        log: EventLog,
        group: str = "movie-events",
        topics: Sequence[str] = tuple(TOPICS),
        handlers: Mapping[type, Handler] | None = None,
    ) -> None:
        self.log = log
        taken = handlers if handlers is not None else {kind.struct: _show for kind in EVENT_TYPES}
        self._consumer = Consumer(log, group, tuple(topics), taken)

    def start_consuming(self, limit: int | None = None) -> int:
        """Handle events until `stop`, or until `limit` events were handled; returns how many."""
        if limit is None:
            self._consumer.run()
            return 0
        handled = 0
        while handled < limit:
            found = self._consumer.run_once(1.0)
            if not found:
                break
            handled += found
        self._consumer.commit()
        return handled

    def stop(self) -> None:
        """Let `start_consuming` return."""
        self._consumer.stop()

    def close(self) -> None:
        """Close the log."""
        self.log.close()


def _made(kind: type[_Event], fields: Mapping[str, Any]) -> _Event:
    try:
        return kind(**fields)
    except (TypeError, ValidationError) as error:
        message = f"no {kind.__name__}: {error}"
        raise EventError(message) from error


def _show(event: Any, record: Record) -> None:
    _LOG.info("%s %s %s", record.position, record.type, event)
