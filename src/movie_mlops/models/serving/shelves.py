"""What a home page shows beside one's list: popular these days, new, like what one watched."""

import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from movie_mlops.domain.interactions import UserId
from movie_mlops.domain.movies import GENRES, MovieId
from movie_mlops.domain.recommendations import Path, RecommendationList
from movie_mlops.domain.versions import Alias
from movie_mlops.models.algorithms.base import IntArray
from movie_mlops.models.serving.catalogue import Catalogue
from movie_mlops.models.serving.histories import Histories
from movie_mlops.models.serving.history_users import UserHistory
from movie_mlops.models.serving.recommender import RecommendationService, Stamp
from movie_mlops.models.serving.reranking import mean_mix

WEEK = 7
_GENRE_ROWS = 2
_MOST_ROWS = 4 + _GENRE_ROWS
_SECONDS_PER_DAY = 86_400
_KEPT_HOMES = 1_000
_KEPT_TRENDS = 100
_TREND_SECONDS = 1.0  # how old a ranking may be that many viewers move all the time

RowKey = Literal["for_you", "because", "popular", "new", "genre"]


@dataclass(frozen=True, slots=True)
class Trend:
    """Films in the order of their viewers in a window; `viewers` beside each.

    `until` is the last day with any viewer, as days since 1970; None where there is none yet.
    One person counts once a day and film.
    """

    until: int | None
    movie_ids: IntArray
    viewers: IntArray


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the page; `about` is the film or the genre that it is about."""

    key: RowKey
    movie_ids: tuple[MovieId, ...]
    about: MovieId | str | None = None


@dataclass(frozen=True, slots=True)
class HomePage:
    """The user's list, and the rows below it; a film stands in one of them only."""

    made: RecommendationList
    rows: tuple[Row, ...]

    @property
    def path(self) -> Path:
        """How the first row came to be."""
        return self.made.path


class Shelves:
    """Rows of films; personal ones are kept until the user, the model or the films change."""

    def __init__(
        self, recommender: RecommendationService, histories: Histories, catalogue: Catalogue
    ) -> None:
        self._recommender, self._histories = recommender, histories
        self._catalogue = catalogue
        self._homes: OrderedDict[tuple[str, int, Alias], tuple[Stamp, float, HomePage]] = (
            OrderedDict()
        )
        self._trends: dict[tuple[int, str | None], tuple[tuple[int, int], float, Trend]] = {}

    def popular(self, days: int, genre: str | None = None) -> Trend:
        """All films (of one genre), those with most viewers in the last `days` days first.

        Of as many, and of those that nobody watched, the popular ones of the catalogue first.
        The window ends with the last day on which anybody watched anything.
        """
        key, trends = (days, genre), self._histories.trends
        stamp = id(trends), self._catalogue.version
        kept, now = self._trends.get(key), time.monotonic()
        if kept is not None and kept[0] == stamp and now - kept[1] < _TREND_SECONDS:
            return kept[2]
        until, watched, counts = trends.since(days, int(time.time()) // _SECONDS_PER_DAY)
        films = self._catalogue
        ids = films.movie_ids if genre is None else films.of_genre(genre)
        viewers = np.zeros(len(ids), np.int64)
        at = np.minimum(np.searchsorted(ids, watched), max(len(ids) - 1, 0))
        known = ids[at] == watched if len(ids) else np.zeros(len(watched), np.bool_)
        viewers[at[known]] = counts[known]
        order = np.lexsort((films.ranks(ids), -viewers))
        made = Trend(until, ids[order], viewers[order])
        if len(self._trends) >= _KEPT_TRENDS:
            self._trends.clear()
        self._trends[key] = stamp, now, made
        return made

    def home(self, user_id: UserId, k: int, alias: Alias = Alias.CHAMPION) -> HomePage:
        """The rows for this user, each of at most `k` films that the user may be shown."""
        key, stamp = (user_id, k, alias), self._recommender.stamp(user_id, alias)
        kept, now = self._homes.get(key), time.monotonic()
        if kept is not None and kept[0] == stamp and now - kept[1] < _TREND_SECONDS:
            return kept[2]
        made = self._recommender.list_for(user_id, k, alias)
        history = self._histories.of(user_id)
        used = set(history.hidden.tolist()) | {item.movie_id for item in made.items}
        rows = [Row("for_you", tuple(item.movie_id for item in made.items))]
        for row_key, about, candidates in self._candidates(history, _MOST_ROWS * k):
            chosen = _first_unused(candidates, used, k)
            if chosen:
                used.update(chosen)
                rows.append(Row(row_key, chosen, about))
        page = HomePage(made, tuple(rows))
        self._homes[key] = stamp, now, page
        self._homes.move_to_end(key)
        if len(self._homes) > _KEPT_HOMES:
            self._homes.popitem(last=False)
        return page

    def _candidates(
        self, history: UserHistory, enough: int
    ) -> Iterator[tuple[RowKey, MovieId | str | None, Iterable[int]]]:
        catalogue, most = self._catalogue, enough + len(history.hidden)
        watched = [int(film) for film in history.films if int(film) in catalogue]
        if watched:
            last = MovieId(watched[-1])
            _, alike = self._recommender.likeness.of(last, most)
            yield "because", last, (found.movie_id for found in alike)
        yield "popular", None, self.popular(WEEK).movie_ids[:most].tolist()
        yield "new", None, catalogue.latest[:most].tolist()
        mix = mean_mix(catalogue.genre_mixes(np.array(watched, np.int64)))
        for place in np.argsort(-mix, kind="stable")[:_GENRE_ROWS]:
            if mix[place] > 0:
                genre = GENRES[place]
                yield "genre", genre, self.popular(WEEK, genre).movie_ids[:most].tolist()


def _first_unused(candidates: Iterable[int], used: set[int], k: int) -> tuple[MovieId, ...]:
    chosen: dict[MovieId, None] = {}
    for film in candidates:
        if film not in used:
            chosen[MovieId(film)] = None
            if len(chosen) == k:
                break
    return tuple(chosen)
