"""Popularity between trainings: what today's viewers watch moves up, within stated bounds."""

import time
from collections.abc import Sequence
from math import log2

from movie_mlops.models.algorithms.base import IntArray
from movie_mlops.models.serving.histories import Histories
from movie_mlops.models.serving.trends import DAYS

MOST_PLACES = 10
"""Places that a film may move up in a list of somebody without a history."""
MOST_LIFTED = 20
"""Films that may move up at one time: so no other film falls by more places than that."""
FEWEST_VIEWERS = 20
"""Different people who must have watched a film today before it moves."""
_CALM = 5.0  # viewers a day that any film may have without being more popular than it was
_LOOK_SECONDS = 10.0
_SECONDS_PER_DAY = 86_400


class OnlinePopularity:
    """Reads the viewers per film and day, who count once each; a poisoned hour moves little.

    However many events somebody sends, and however many accounts he has: a film moves up at most
    `MOST_PLACES`, at most `MOST_LIFTED` films do, and a training without these events takes it
    back.
    """

    def __init__(self, histories: Histories) -> None:
        self._histories = histories
        self._lifts: dict[int, int] = {}
        self._looked_at = float("-inf")
        self.version = 0

    def look(self) -> int:
        """Read again what is watched today, now and then; the version of what was found."""
        now = time.monotonic()
        if now - self._looked_at > _LOOK_SECONDS:
            self._looked_at = now
            found = self._read(int(time.time()) // _SECONDS_PER_DAY)
            if found != self._lifts:
                self._lifts = found
                self.version += 1
        return self.version

    def reorder(self, best: Sequence[int], ids: IntArray, k: int) -> Sequence[int]:
        """The first k of `best` (positions in `ids`, the best first, `MOST_PLACES` more than k)."""
        if not self._lifts:
            return best[:k]
        lifts = [self._lifts.get(film, 0) for film in ids[best].tolist()]
        # half a place more, so that a film that has moved up stands before the one that was there
        places = [place - lift - 0.5 * (lift > 0) for place, lift in enumerate(lifts)]
        order = sorted(range(len(best)), key=places.__getitem__)
        return [best[place] for place in order[:k]]

    def _read(self, today: int) -> dict[int, int]:
        trends = self._histories.trends
        found: list[tuple[float, int]] = []
        for film, viewers in trends.on(today):
            if viewers >= FEWEST_VIEWERS:
                usual = trends.mean_before(today, film, DAYS - 1)
                found.append((viewers / (usual + _CALM), film))
        strongest = sorted(found, reverse=True)[:MOST_LIFTED]
        lifts = {
            film: min(MOST_PLACES, int(4 * log2(ratio))) for ratio, film in strongest if ratio > 1
        }
        return {film: places for film, places in lifts.items() if places > 0}
