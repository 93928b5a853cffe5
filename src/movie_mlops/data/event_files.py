"""The names of the lake's event files."""

import re
from typing import NamedTuple

_EVENT_FILE = re.compile(r"(?P<topic>.+)-(?P<partition>\d+)-(?P<first>\d+)-(?P<last>\d+)\.parquet")


class EventFile(NamedTuple):
    """What a file of events stands for, rows that were erased included."""

    topic: str
    partition: int
    first: int
    last: int


def event_file_of(name: str) -> EventFile | None:
    """What the name of a file says; None: it is no file of events."""
    match = _EVENT_FILE.fullmatch(name)
    if match is None:
        return None
    return EventFile(match["topic"], *(int(match[key]) for key in ("partition", "first", "last")))
