"""Tells repeated events of a log that cannot look ids up, from a window of recent ones."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import NamedTuple

from movie_mlops.events.base import Place, Record, Standing

WINDOW = 10_000
"""Offsets of a partition in which an id counts once."""
_BITS = 64
_MASK = (1 << _BITS) - 1


class Stored(NamedTuple):
    """A record as it lies in the log, and what makes it the same as another one of its id."""

    record: Record
    identity: bytes


class Repeats:
    """Gives records their standing; not safe for threads.

    A record is a repeat when its id stands among the `WINDOW` offsets before it, and a conflict
    when the latest of those is another event. That hangs on the log alone, so every replica
    judges alike, and a window is made anew from the log wherever reading begins: `fetch` gets a
    place and two offsets and gives what lies from the first up to the second.
    """

    def __init__(self, fetch: Callable[[Place, int, int], Iterable[Stored]]) -> None:
        self._fetch = fetch
        self._windows: dict[Place, _Window] = {}

    def judged(self, stored: Sequence[Stored]) -> list[Record]:
        """The records with their standing; each partition's in order."""
        judged: list[Record] = []
        for each in stored:
            topic, partition, offset = each.record.position
            place = Place(topic, partition)
            window = self._windows.get(place)
            if window is None or offset < window.next_offset:
                window = self._windows[place] = self._remade(place, offset)
            standing = window.take(each)
            is_first = standing is Standing.FIRST
            judged.append(each.record if is_first else replace(each.record, standing=standing))
        return judged

    def continues(self, place: Place, offset: int) -> None:
        """Reading goes on at this offset; the window of another one is forgotten."""
        window = self._windows.get(place)
        if window is not None and window.next_offset != offset:
            del self._windows[place]

    def forget(self, places: Iterable[Place]) -> None:
        """Make these windows anew before they are used again."""
        for place in places:
            self._windows.pop(place, None)

    def _remade(self, place: Place, offset: int) -> "_Window":
        window = _Window()
        if offset > 0:
            for each in self._fetch(place, max(0, offset - WINDOW), offset):
                window.take(each)
        return window


class _Window:
    """Ids of one partition: hash to offset and fingerprint, in the order of offsets."""

    def __init__(self) -> None:
        self.next_offset = 0
        self._seen: dict[int, int] = {}

    def take(self, stored: Stored) -> Standing:
        offset = stored.record.position.offset
        self.next_offset = offset + 1
        name = _short(stored.record.event_id.encode(errors="surrogatepass"))
        mark = _short(stored.identity)
        known = self._seen.pop(name, None)
        self._seen[name] = offset << _BITS | mark
        oldest = next(iter(self._seen))  # one comes in, at most one leaves
        if self._seen[oldest] >> _BITS < offset - WINDOW:
            del self._seen[oldest]
        if known is None or known >> _BITS < offset - WINDOW:
            return Standing.FIRST
        return Standing.DUPLICATE if known & _MASK == mark else Standing.CONFLICT


def _short(text: bytes) -> int:
    return int.from_bytes(blake2b(text, digest_size=8).digest())
