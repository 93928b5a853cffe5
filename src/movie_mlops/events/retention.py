"""What may be forgotten: events that are old, and that everybody who needs them has."""

from collections.abc import Mapping
from datetime import datetime

from movie_mlops.events.base import EventLog, Place


def trim_before(
    log: EventLog, topic: str, before: datetime, needed: Mapping[Place, int]
) -> dict[Place, int]:
    """Remove the topic's events published before this time, none from the `needed` offset on.

    Returns:
        The oldest offset kept per partition that was trimmed.
    """
    at = int(before.timestamp() * 1_000_000)
    found: dict[Place, int] = {}
    for place, end in log.end_positions([topic]).items():
        offset = _first_since(log, place, min(end, needed.get(place, end)), at)
        if offset > 0:
            found[place] = offset
    if found:
        log.trim(found)
    return found


def _first_since(log: EventLog, place: Place, end: int, at: int) -> int:
    """The first offset below `end` whose event was published at this time or later, else `end`."""
    low, high = 0, end
    while low < high:
        middle = (low + high) // 2
        event = next(iter(log.read(place, middle, 1)), None)
        if event is None or event.position.offset >= high or event.published_at >= at:
            high = middle
        else:
            low = event.position.offset + 1
    return low
