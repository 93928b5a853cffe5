"""Watches a new champion: clearly worse in use than the one before, it is taken back."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import log2, sqrt

from movie_mlops.automation.rollout import ACTOR, Rollout
from movie_mlops.domain.versions import MOVIE_RECOMMENDER
from movie_mlops.models.manifest import read_manifest
from movie_mlops.models.serving.online_quality import Rate, VersionQuality

FEWEST_VIEWERS = 200
"""Of each version, before the first look; the next ones at twice, four times … as many."""
_LOOKS = 6
_Z = 2.64  # one-sided 2.5 % for all six looks together
_95 = 1.959964


@dataclass(slots=True)
class Guard:
    """Of the recommender; only promotions by the roll-out are taken back, a person's word stands.

    The two versions were shown at different times, to whoever came: this is a safety net for
    what goes badly wrong, not a verdict between two models; that is the canary's.
    """

    rollout: Rollout
    watched: timedelta
    looked: dict[str, int] = field(default_factory=dict)

    def look(self, found: Sequence[VersionQuality], now: datetime) -> str | None:
        """Roll back when that is called for; the reason, None where nothing is done."""
        served = read_manifest(self.rollout.serving).get(MOVIE_RECOMMENDER)
        if served is None or served.champion is None or not served.previous:
            return None
        version, before = served.champion.version, served.previous[0].version
        by_version = {each.model_version: each for each in found}
        new, old = by_version.get(version), by_version.get(before)
        if new is None or old is None or not self._is_watched(version, now):
            return None
        number = _look_at(min(new.viewers, old.viewers))
        if number <= self.looked.get(version, 0):
            return None
        self.looked = {version: number}
        reason = _worse(new, old)
        if reason is not None:
            self.rollout.roll_back(MOVIE_RECOMMENDER, reason, ACTOR)
        return reason

    def _is_watched(self, version: str, now: datetime) -> bool:
        """Whether this version became champion by the roll-out, a short time ago."""
        for noted in self.rollout.store.history(1_000):
            event = noted.event
            if event.model_name == MOVIE_RECOMMENDER and event.subject == f"version {version}":
                is_promotion = event.after == "champion" and event.actor == ACTOR
                return is_promotion and now - event.timestamp < self.watched
        return False


def _look_at(viewers: int) -> int:
    """The number of the look that so many viewers allow; 0: none yet."""
    if viewers < FEWEST_VIEWERS:
        return 0
    return min(int(log2(viewers / FEWEST_VIEWERS)) + 1, _LOOKS)


def _worse(new: VersionQuality, old: VersionQuality) -> str | None:
    """Why the new version is clearly worse: fewer of its lists led to a film that was liked."""
    after, before = new.positive_share, old.positive_share
    if after.value is None or before.value is None:
        return None
    radius = _Z * sqrt(_variance(after) + _variance(before))
    if before.value - after.value <= radius:
        return None
    return (
        f"{100 * after.value:.1f} % of its lists led to a liked or watched film, "
        f"{100 * before.value:.1f} % of v{old.model_version}'s "
        f"({new.viewers} and {old.viewers} viewers)"
    )


def _variance(rate: Rate) -> float:
    if rate.low is None or rate.high is None:
        return float("inf")
    return float(((rate.high - rate.low) / (2 * _95)) ** 2)
