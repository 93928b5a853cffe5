"""How good each model version is in use: what viewers did with its lists, as it arrives.

Feedback comes late: a list that was shown a minute ago without a click is no failure yet. So a
list counts by the chance that its outcome would have arrived by its age, learnt from the lists
whose time is over (as in Chapelle, "Modeling delayed feedback in display advertising", 2014):
clicks over the sum of these chances is right from the first minute and moves with every label.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from movie_mlops.domain.interactions import InteractionType, is_positive
from movie_mlops.domain.versions import MOVIE_RECOMMENDER
from movie_mlops.models.serving.exposure_store import KEPT_SECONDS, ExposureStore
from movie_mlops.models.serving.exposures import Written, written
from movie_mlops.models.serving.feedback import Act, Outcomes

Floats = NDArray[np.float64]

KEPT_VERSIONS = 4
"""As many have gauges, those that were shown last."""
_CLOCKS_MS = 60_000  # how far a viewer's clock may be behind
_KNOWN_DELAYS = 30  # with fewer only lists whose time is over count
_Z = 1.959964


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its 95 % interval; None where nothing counts yet.

    Wilson's interval on as many independent lists as the `weight` counted ones are worth: lists
    of one viewer resemble each other.
    """

    value: float | None
    low: float | None
    high: float | None
    events: int
    weight: float


@dataclass(frozen=True, slots=True)
class VersionQuality:
    """One version's lists of the last day, and what followed; the counts are lists.

    `positives` are lists whose viewer watched, liked or rated well one of their films; `films` is
    how many different films the lists showed.
    """

    model_version: str
    exposures: int
    viewers: int
    clicks: int
    watches: int
    positives: int
    click_through: Rate
    watch_share: Rate
    positive_share: Rate
    ratings: int
    mean_rating: float | None
    mean_rating_low: float | None
    mean_rating_high: float | None
    last_shown_ms: int
    films: int = 0


def online_quality(
    store: ExposureStore, outcomes: Outcomes, now: datetime, attribution_minutes: float = 60.0
) -> list[VersionQuality]:
    """Every version of the recommender that was shown within a day, the latest shown first.

    An act counts for the list that it names when it is about one of its films, of the same
    viewer, and happened within the attribution window, however late it arrives.

    Raises:
        EngineUnavailableError: exposures or log do not answer.
    """
    now_ms = round(1000 * now.timestamp())
    since = now_ms - round(1000 * KEPT_SECONDS)
    acts = outcomes.read(since)
    window = max(60_000 * attribution_minutes, 1.0)
    lists = _Lists(window)
    for batch in written(store, since):
        lists.add(batch, acts)
    return lists.by_version(now_ms)


def gauges(found: Sequence[VersionQuality], catalogue: int) -> dict[str, dict[str, float]]:
    """For `monitoring.metrics.write_figures`: only the versions that were shown last.

    `catalogue` is the number of films there are: lists that show ever fewer of them narrow.
    """
    shown = found[:KEPT_VERSIONS]
    rows: tuple[tuple[str, Iterable[tuple[str, float | None]]], ...] = (
        ("online_click_through", [(q.model_version, q.click_through.value) for q in shown]),
        ("online_watch_share", [(q.model_version, q.watch_share.value) for q in shown]),
        ("online_mean_rating", [(q.model_version, q.mean_rating) for q in shown]),
        ("online_exposures", [(q.model_version, float(q.exposures)) for q in shown]),
        (
            "recommendation_coverage",
            [(q.model_version, q.films / max(catalogue, 1)) for q in shown],
        ),
    )
    return {
        name: {version: value for version, value in values if value is not None}
        for name, values in rows
    }


def wilson(share: float, count: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of `count` trials (need not be whole)."""
    centre = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    radius = _Z * sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2)) / (1 + _Z**2 / count)
    return max(centre - radius, 0.0), min(centre + radius, 1.0)


class _Lists:
    """Lists as columns; a delay is infinite where nothing followed."""

    def __init__(self, window_ms: float) -> None:
        self._window = window_ms
        self._versions: dict[str, int] = {}
        self._users: dict[str, int] = {}
        self._films: dict[str, set[int]] = {}
        self._columns: list[tuple[NDArray[np.int64], ...]] = []
        self._count = 0
        self._followed: list[tuple[int, dict[str, float]]] = []
        self._ratings: list[tuple[int, int, float]] = []

    def add(self, batch: Written, acts: Mapping[str, Sequence[Act]]) -> None:
        """Take in one batch of answers."""
        version_of = np.full(len(batch.shown), -1)
        user_of = np.zeros(len(batch.shown), np.int64)
        for place, shown in enumerate(batch.shown):
            if shown.kind == "list" and shown.model == MOVIE_RECOMMENDER and shown.version:
                version_of[place] = self._versions.setdefault(shown.version, len(self._versions))
                user_of[place] = self._users.setdefault(shown.user_id, len(self._users))
                self._films.setdefault(shown.version, set()).update(shown.items)
        kept = np.flatnonzero(version_of[batch.places] >= 0)
        version, user = version_of[batch.places[kept]], user_of[batch.places[kept]]
        self._columns.append((version, user, batch.at_ms[kept]))
        if acts:
            for row, at in enumerate(kept.tolist()):
                followed = acts.get(batch.request_ids[at])
                if followed:
                    self._follow(row, batch, at, followed)
        self._count += len(kept)

    def _follow(self, row: int, batch: Written, at: int, acts: Sequence[Act]) -> None:
        shown, at_ms = batch.shown[batch.places[at]], int(batch.at_ms[at])
        delays: dict[str, float] = {}
        for act in acts:
            if act.user_id != shown.user_id or act.movie_id not in shown.items:
                continue
            if not -_CLOCKS_MS <= act.at_ms - at_ms <= self._window:
                continue
            delay = max(act.arrived_ms - at_ms, 0)
            for name in _names(act):
                delays[name] = min(delay, delays.get(name, np.inf))
            if act.rating is not None:
                version, user = self._versions[shown.version], self._users[shown.user_id]
                self._ratings.append((version, user, act.rating))
        if delays:
            self._followed.append((self._count + row, delays))

    def by_version(self, now_ms: int) -> list[VersionQuality]:
        """The figures, the version shown last first."""
        if not self._versions:
            return []
        version, user, at_ms = (np.concatenate(each) for each in zip(*self._columns, strict=True))
        age = (now_ms - at_ms).astype(float)
        delays = {name: np.full(len(version), np.inf) for name in ("click", "watch", "positive")}
        for row, found in self._followed:
            for name, delay in found.items():
                delays[name][row] = delay
        weights = {name: _weights(age, delay, self._window) for name, delay in delays.items()}
        made = []
        for name, number in self._versions.items():
            mine = version == number
            happened = {kind: np.isfinite(delay[mine]) for kind, delay in delays.items()}
            rates = {
                kind: _rate(happened[kind], weights[kind][mine], user[mine]) for kind in delays
            }
            stars = [(u, stars) for v, u, stars in self._ratings if v == number]
            mean, low, high = _mean(stars)
            made.append(
                VersionQuality(
                    model_version=name,
                    exposures=int(mine.sum()),
                    viewers=len(np.unique(user[mine])),
                    clicks=int(happened["click"].sum()),
                    watches=int(happened["watch"].sum()),
                    positives=int(happened["positive"].sum()),
                    click_through=rates["click"],
                    watch_share=rates["watch"],
                    positive_share=rates["positive"],
                    ratings=len(stars),
                    mean_rating=mean,
                    mean_rating_low=low,
                    mean_rating_high=high,
                    last_shown_ms=int(at_ms[mine].max()),
                    films=len(self._films[name]),
                )
            )
        return sorted(made, key=lambda each: -each.last_shown_ms)


def _names(act: Act) -> list[str]:
    names = ["click"] if act.kind is InteractionType.CLICK else []
    names += ["watch"] if act.kind is InteractionType.WATCH else []
    return names + (["positive"] if is_positive(act.kind, act.rating) else [])


def _weights(age: Floats, delay: Floats, window: float) -> Floats:
    """The chance that an outcome would have arrived by now; 1 where the window is over."""
    over = age >= window
    known = np.sort(delay[over & np.isfinite(delay)])
    if len(known) < _KNOWN_DELAYS:
        return over.astype(float)
    arrived = np.searchsorted(known, age, side="right") / len(known)
    weights: Floats = np.where(over, 1.0, arrived)
    return weights


def _rate(happened: NDArray[np.bool_], weight: Floats, user: NDArray[np.int64]) -> Rate:
    counted = happened & (weight > 0)
    total, events = float(weight.sum()), int(counted.sum())
    if total <= 0:
        return Rate(None, None, None, events, 0.0)
    share = min(events / total, 1.0)
    worth = total / _design_effect(share, counted, weight, user)
    low, high = wilson(share, worth)
    return Rate(share, low, high, events, total)


def _design_effect(
    share: float, counted: NDArray[np.bool_], weight: Floats, user: NDArray[np.int64]
) -> float:
    """How much wider the share's variance is than that of independent lists; at least 1."""
    _, number = np.unique(user, return_inverse=True)
    rest = np.bincount(number, counted - share * weight)
    independent = share * (1 - share) * float(weight.sum())
    if len(rest) < 2 or independent <= 0:
        return 1.0
    return max(float(np.sum(rest**2)) * len(rest) / (len(rest) - 1) / independent, 1.0)


def _mean(stars: Sequence[tuple[int, float]]) -> tuple[float | None, float | None, float | None]:
    """Mean and its 95 % interval; viewers are the independent ones."""
    if not stars:
        return None, None, None
    users, values = (np.array(each) for each in zip(*stars, strict=True))
    mean = float(values.mean())
    _, number = np.unique(users, return_inverse=True)
    sums = np.bincount(number, values - mean)
    if len(sums) < 2:
        return mean, None, None
    radius = _Z * sqrt(float(np.sum(sums**2)) * len(sums) / (len(sums) - 1)) / len(values)
    return mean, mean - radius, mean + radius
