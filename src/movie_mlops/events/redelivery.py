"""Dead letters put back: each goes once more to the group that could not handle it."""

from dataclasses import dataclass, field

from movie_mlops.domain.errors import UnknownEventError
from movie_mlops.events.base import EventLog, Record, next_positions, parse_position
from movie_mlops.events.erased import ErasedUsers
from movie_mlops.events.schemas import DEAD_LETTERS, DeadLetter, Redelivered, decode, encode

GROUP = "redelivery"
_BATCH = 500
_POLL_SECONDS = 1.0


@dataclass(slots=True)
class Replayed:
    """How many letters were put back, and those that cannot be: their positions and why."""

    letters: int = 0
    left: list[str] = field(default_factory=list)


def replay_dead_letters(
    log: EventLog, group: str | None = None, erased: ErasedUsers | None = None
) -> Replayed:
    """Publish the events of all letters that were not put back before, of one group or of all.

    Each goes to the topic that it came from, as `redelivered.v1` for the group that wrote the
    letter, which handles it as if it came for the first time; other groups have had it. Killed
    in between, what is put back twice is a duplicate. Letters of viewers who were erased after
    them stay where they are.

    Raises:
        EngineUnavailableError: the log does not answer; call again.
    """
    done = Replayed()
    ends = log.end_positions([DEAD_LETTERS])
    reached = log.committed(GROUP, [DEAD_LETTERS])
    for place, end in ends.items():
        offset = reached[place]
        while offset < end:
            records = log.read(place, offset, min(_BATCH, end - offset))
            if not records:
                break
            for record in records:
                if erased is None or not _is_hidden(record, erased):
                    _put_back(log, record, group, done)
            log.commit(GROUP, next_positions(records))
            offset = records[-1].position.offset + 1
    return done


def opened(event: Redelivered, record: Record) -> Record:
    """The event as it was, at the place where it stands now."""
    return Record(
        record.position,
        event.event_id,
        event.key,
        event.type,
        event.body.encode(),
        record.published_at,
    )


def _is_hidden(record: Record, erased: ErasedUsers) -> bool:
    try:
        letter = decode(record)
    except UnknownEventError:
        return False
    if not isinstance(letter, DeadLetter):
        return False
    return erased.hides(letter.key, parse_position(letter.position))


def _put_back(log: EventLog, record: Record, group: str | None, done: Replayed) -> None:
    try:
        letter = decode(record)
    except UnknownEventError as error:
        done.left.append(f"{record.position}: {error}")
        return
    if not isinstance(letter, DeadLetter) or group not in (None, letter.group):
        return
    if not letter.body:
        done.left.append(f"{record.position}: its body was too large for a letter")
        return
    event = Redelivered(
        position=letter.position,
        group=letter.group,
        event_id=letter.event_id,
        key=letter.key,
        type=letter.type,
        body=letter.body,
    )
    event_id = f"again:{record.position}"
    fingerprint = event_id.encode()[:64]
    log.publish(parse_position(letter.position).topic, [encode(event, event_id, fingerprint)])
    done.letters += 1
