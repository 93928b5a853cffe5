"""Films and people in memory, as the API and the page show them."""

import unicodedata
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from movie_mlops.data.tables import MOVIES
from movie_mlops.domain.errors import MovieNotFoundError
from movie_mlops.domain.movies import GENRES, Movie
from movie_mlops.models.algorithms.base import FloatArray, IntArray
from movie_mlops.models.serving.posters import Language

ReadTable = Callable[[], pl.DataFrame | None]
"""Reads a whole table; None while there is none yet."""

_TITLES = ("title", "title_en", "title_ko", "original_title")
_KEPT_FILMS, _KEPT_TITLES = 20_000, 50_000


@dataclass(frozen=True, slots=True)
class Person:
    """A simulated viewer whom the page lets one be."""

    user_id: str
    name: str
    name_ko: str | None
    taste: str | None
    taste_ko: str | None


class _Title(NamedTuple):
    en: str
    ko: str


class _Films:
    """One reading of the table, sorted by film id."""

    def __init__(self, frame: pl.DataFrame) -> None:
        # by NumPy: Polars would bring 6 MB of its engine into memory for this alone
        ids, first = np.unique(frame["movie_id"].to_numpy(), return_index=True)
        self.frame = frame[first]
        self.ids: IntArray = ids.astype(np.int64)
        self._id_numbers = self.ids.data
        popularity, votes = (self.frame[name].to_numpy() for name in ("popularity", "vote_count"))
        self.order: NDArray[np.int64] = np.lexsort((-votes, -popularity))
        self.rank = np.empty(len(self.order), np.int64)
        self.rank[self.order] = np.arange(len(self.order))
        self.titles = pl.DataFrame(
            [
                pl.Series(name, [_folded(title or "") for title in column.to_list()], pl.String)
                for name in _TITLES
                for column in (self.frame[name],)
            ]
        )
        self.genres = np.array(
            [_genre_bits(genres) for genres in self.frame["genres"].to_list()], np.uint32
        )
        self.made: dict[int, Movie] = {}
        self.named: dict[int, _Title] = {}

    @cached_property
    def latest(self) -> IntArray:
        years = self.frame["year"].fill_null(0).to_numpy()
        return self.ids[np.lexsort((self.rank, -years))]

    def row(self, movie_id: int) -> int | None:
        # bisect, because NumPy's search gives the interpreter away, and a commit may have it long
        row = bisect_left(self._id_numbers, movie_id)
        numbers = self._id_numbers
        return row if row < len(numbers) and numbers[row] == movie_id else None

    def movie(self, row: int) -> Movie:
        movie_id = int(self.ids[row])
        found = self.made.get(movie_id)
        if found is None:
            found = _movie(self.frame.row(row, named=True))
            if len(self.made) < _KEPT_FILMS:
                self.made[movie_id] = found
        return found

    def title(self, movie_id: int) -> _Title | None:
        found = self.named.get(movie_id)
        if found is None:
            row = self.row(movie_id)
            if row is None:
                return None
            title, *own = (self.frame[name][row] for name in ("title", "title_en", "title_ko"))
            found = _Title(*(each or title for each in own))
            if len(self.named) < _KEPT_TITLES:
                self.named[movie_id] = found
        return found


class Catalogue:
    """Every film of the movies table; `reload` reads it again and swaps it in at once."""

    def __init__(self, read: ReadTable) -> None:
        self._read = read
        self._films = _Films(pl.DataFrame(schema=MOVIES.schema))
        self.version = 0
        self.reload()

    def __len__(self) -> int:
        return len(self._films.ids)

    def __contains__(self, movie_id: int) -> bool:
        return movie_id in self._films.made or self._films.row(movie_id) is not None

    @property
    def movie_ids(self) -> IntArray:
        """All ids, sorted."""
        return self._films.ids

    @property
    def frame(self) -> pl.DataFrame:
        """The movies table, each film once, sorted by id."""
        return self._films.frame

    def reload(self) -> None:
        """Read the table again; where there is none, what is there stays."""
        frame = self._read()
        if frame is not None:
            self._films = _Films(frame)
            self.version += 1

    def get(self, movie_id: int) -> Movie:
        """One film.

        Raises:
            MovieNotFoundError: the catalogue has no such film.
        """
        films = self._films
        found = films.made.get(movie_id)
        if found is not None:
            return found
        row = films.row(movie_id)
        if row is None:
            message = f"the catalogue has no film {movie_id}; /api/v1/movies lists them all"
            raise MovieNotFoundError(message)
        return films.movie(row)

    def title(self, movie_id: int, language: Language) -> str | None:
        """The title in this language, where there is one; None without such a film."""
        found = self._films.title(movie_id)
        if found is None:
            return None
        return found.ko if language == "ko" else found.en

    def page(self, after: int, limit: int) -> list[Movie]:
        """Films with ids above `after`, in order of id."""
        films = self._films
        start = int(np.searchsorted(films.ids, after, side="right"))
        return [films.movie(row) for row in range(start, min(start + limit, len(films.ids)))]

    def search(self, text: str, limit: int) -> list[Movie]:
        """Films with the text in a title: those that begin with it first, then by popularity."""
        films, wanted = self._films, _folded(text.strip())
        if not wanted:
            return []
        columns = [pl.col(name) for name in _TITLES]
        found = films.titles.select(
            row=pl.int_range(pl.len()),
            contains=pl.any_horizontal(col.str.contains(wanted, literal=True) for col in columns),
            begins=pl.any_horizontal(col.str.starts_with(wanted) for col in columns),
        ).filter("contains")
        rows, begins = found["row"].to_numpy(), found["begins"].to_numpy()
        order = np.lexsort((films.rank[rows], ~begins))[:limit]
        return [films.movie(int(rows[at])) for at in order]

    def popular(self, limit: int, hidden: IntArray) -> list[Movie]:
        """The most popular films that are not hidden."""
        films = self._films
        seen = set(hidden.tolist())
        chosen: list[Movie] = []
        for row in films.order:
            if int(films.ids[row]) not in seen:
                chosen.append(films.movie(int(row)))
                if len(chosen) == limit:
                    break
        return chosen

    def ranks(self, movie_ids: IntArray) -> IntArray:
        """Places in the order of popularity, from 0, of films that the catalogue has."""
        films = self._films
        rows = np.minimum(np.searchsorted(films.ids, movie_ids), len(films.ids) - 1)
        return films.rank[rows]

    def of_genre(self, genre: str) -> IntArray:
        """Ids of the films of one of `GENRES`, sorted."""
        films = self._films
        return films.ids[(films.genres & np.uint32(_genre_bits([genre]))) > 0]

    def genre_mixes(self, movie_ids: IntArray) -> FloatArray:
        """The films' genres in equal parts, [films, GENRES]; zeros for a film without any."""
        films = self._films
        rows = np.minimum(np.searchsorted(films.ids, movie_ids), max(len(films.ids) - 1, 0))
        bits = np.where(films.ids[rows] == movie_ids, films.genres[rows], 0)
        mixes = ((bits[:, None] >> np.arange(len(GENRES))) & 1).astype(np.float32)
        mixes /= np.maximum(mixes.sum(axis=1, keepdims=True), 1)
        return mixes

    def genre_counts(self) -> dict[str, int]:
        """Films per genre, of the genres that any film has."""
        bits = self._films.genres[:, None] >> np.arange(len(GENRES)) & 1
        counts = zip(GENRES, bits.sum(axis=0).tolist(), strict=True)
        return {genre: count for genre, count in counts if count}

    @property
    def latest(self) -> IntArray:
        """All ids, the newest year first; of one year, the popular ones first."""
        return self._films.latest


class People:
    """The simulated viewers; empty where the source has none."""

    def __init__(self, read: ReadTable) -> None:
        self._read = read
        self.all: tuple[Person, ...] = ()
        self.reload()

    def reload(self) -> None:
        """Read the table again; where there is none, what is there stays."""
        frame = self._read()
        if frame is not None:
            names = ("user_id", "name", "name_ko", "taste", "taste_ko")
            self.all = tuple(Person(*row) for row in frame.select(names).iter_rows())


def _movie(row: dict[str, Any]) -> Movie:
    values = {name: row[name] for name in Movie.__dataclass_fields__}
    for name in ("genres", "directors", "cast"):
        values[name] = tuple(values[name] or ())
    return Movie(**values)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _genre_bits(genres: list[str] | None) -> int:
    return sum(1 << GENRES.index(genre) for genre in set(genres or ()) if genre in GENRES)
