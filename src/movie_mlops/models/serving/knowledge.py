"""What was known of a viewer at a place of the event log."""

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from movie_mlops.data.lake import Lake
from movie_mlops.data.tables import INTERACTIONS
from movie_mlops.domain.errors import UnknownEventError
from movie_mlops.domain.interactions import Interaction
from movie_mlops.events import EventLog
from movie_mlops.events.base import Place, Position, Record
from movie_mlops.events.erased import ErasedUsers
from movie_mlops.events.schemas import USER_EVENTS, UserInteractionEvent, decode, to_interaction
from movie_mlops.models.serving.histories import Histories
from movie_mlops.models.serving.history_users import UserHistory

_BATCH = 5_000
_FIELDS = ("user_id", "movie_id", "interaction_type", "timestamp", "rating", "target_event_id")


@dataclass(frozen=True, slots=True)
class Knowledge:
    """Makes histories again as serving made them; `length` is how many films it keeps."""

    lake: Lake
    log: EventLog
    erased: ErasedUsers
    length: int

    def at(self, user_id: str, position: Position, source: pl.DataFrame) -> UserHistory:
        """The viewer's history when the log had been read up to `position`.

        Rows of the source's table (`source_rows` of the model's snapshot), then the viewer's
        events, those of the lake and of the log behind it. What was erased since is not there.
        """
        mine = source.filter(pl.col("user_id") == user_id)
        histories = Histories.from_frame(mine, self.length)
        self.erased.look()
        for interaction, at in self._events(user_id, position):
            if not self.erased.hides(user_id, at):
                histories.apply(interaction, at)
        return histories.of(user_id)

    def _events(self, user_id: str, until: Position) -> Iterator[tuple[Interaction, Position]]:
        place = Place(until.topic, until.partition)
        kept = self.lake.events(USER_EVENTS)
        if len(kept):
            mine = (pl.col("user_id") == user_id) & (pl.col("offset") < until.offset)
            for row in kept.filter(mine).sort("offset").iter_rows(named=True):
                act = UserInteractionEvent(**{name: row[name] for name in _FIELDS})
                yield to_interaction(act, row["event_id"]), Position(*place, row["offset"])
        offset = self.lake.event_positions(USER_EVENTS).get(place.partition, 0)
        while offset < until.offset:
            records = self.log.read(place, offset, min(_BATCH, until.offset - offset))
            if not records:
                return
            offset = records[-1].position.offset + 1
            for record in records:
                event = _decoded(record) if record.key == user_id else None
                if event is not None and record.position.offset < until.offset:
                    yield to_interaction(event, record.event_id), record.position


def _decoded(record: Record) -> UserInteractionEvent | None:
    try:
        event = decode(record)
    except UnknownEventError:
        return None
    return event if isinstance(event, UserInteractionEvent) else None


def source_rows(lake: Lake) -> pl.DataFrame:
    """The table of what a source says that people did; without rows where there is none."""
    if lake.exists(INTERACTIONS.name):
        return lake.read(INTERACTIONS.name)
    return pl.DataFrame(schema=INTERACTIONS.schema)
