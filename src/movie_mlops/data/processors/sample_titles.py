"""Titles of the invented films in both languages: whole ones, patterns and sequels; none twice."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from movie_mlops.data.processors.sample_people import Person
from movie_mlops.data.processors.sample_words import Pair, fill, fitting, names, stories
from movie_mlops.data.processors.sample_words import title_patterns as patterns

_COUNTS = [Pair("Two", "둘"), Pair("Three", "셋"), Pair("Five", "다섯"), Pair("Seven", "일곱"),
           Pair("Nine", "아홉"), Pair("Twelve", "열둘")]  # fmt: skip
_UNCOUNTED = {
    "Salt", "Snow", "Gravity", "Silence", "Thunder", "Dust", "Bees", "Voices", "Freight",
    "Karaoke", "Marrow", "Testimony", "Tomorrow", "Snowfall", "Winter", "Spring",
}  # fmt: skip
_COUNTED_PATTERN = re.compile(r"\b[Aa] \{n\}|\{[nm]\}s|\b[Aa] \{a\}|One ")
_KOREAN = re.compile(
    r"Hae-won|Seoul|Hamheung|Gapa|Gokseong|Kimchi|Ok-ja|Incheon|Manchurian|Kiln|Haenyeo"
)
_SEQUEL_GENRES = frozenset(
    ("Action", "Horror", "Comedy", "Animation", "Adventure", "Science Fiction", "Crime", "Fantasy")
)
_SEQUEL_SHARE = 0.05


@dataclass(slots=True)
class Film:
    """One invented film before it becomes a record."""

    number: int
    released: date
    language: str
    place: Pair
    genres: list[str]
    director: Person
    cast: list[Person]
    popularity: float
    votes: int
    rating: float
    runtime: int
    title: Pair = Pair("", "")  # noqa: RUF009 - Pair is frozen
    plot: Pair = Pair("", "")  # noqa: RUF009 - Pair is frozen

    @property
    def year(self) -> int:
        """Year of release."""
        return self.released.year


class TitleMaker:
    """Gives every film a title that no other has in either language."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._taken: set[str] = set()

    def name_all(self, films: Sequence[Film]) -> None:
        """Name the films; the best known ones mostly get the whole titles of their genre."""
        for genre, words in stories().items():
            ranked = sorted(
                (film for film in films if film.genres[0] == genre),
                key=lambda film: -film.popularity,
            )
            whole = self._rng.sample(words["t"], len(words["t"]))
            for film in ranked:
                if self._rng.random() < 0.7:
                    self._take_whole(film, whole)
        for film in films:
            if not film.title.en:
                self._keep(film, self._pattern_title(film))
        self._make_sequels(films)

    def _take_whole(self, film: Film, whole: list[Pair]) -> None:
        for title in fitting(whole, film.year):
            if film.language == "ko" or not _KOREAN.search(title.en):
                whole.remove(title)
                self._keep(film, title)
                return

    def _pattern_title(self, film: Film) -> Pair:
        words, rng = stories()[film.genres[0]], self._rng
        for _ in range(40):
            given = rng.choice(names()[film.language]["g"])
            noun, other = rng.sample(words["n"], 2)
            first, second = rng.sample(words["a"], 2)
            count = rng.choice(_COUNTS)
            pattern = rng.choice(patterns())
            if {noun.en, other.en} & _UNCOUNTED and _COUNTED_PATTERN.search(pattern.en):
                continue
            if "{g}" in pattern.en and not given.ko:
                continue
            slots = {
                "n": noun, "m": other, "a": first, "a2": second, "p": film.place, "g": given,
                "c": count, "ck": count, "year": Pair(str(film.year), str(film.year)),
            }  # fmt: skip
            title = _polished(fill(pattern, slots, rng))
            if not self._is_taken(title):
                return title
        return Pair(f"{title.en} {film.number}", f"{title.ko} {film.number}")

    def _make_sequels(self, films: Sequence[Film]) -> None:
        wanted = int(len(films) * _SEQUEL_SHARE)
        shelves: dict[tuple[str, str], list[Film]] = {}
        for film in sorted(films, key=lambda film: -film.popularity):
            if film.year >= 1970 and film.genres[0] in _SEQUEL_GENRES:
                shelves.setdefault((film.language, film.genres[0]), []).append(film)
        for shelf in shelves.values():
            first = shelf[0]
            follower = min(
                (film for film in shelf[1:] if 2 <= film.year - first.year <= 9),
                key=lambda film: film.year,
                default=None,
            )
            if follower is None or wanted <= 0:
                continue
            wanted -= 1
            follower.director, follower.cast = first.director, [*first.cast]
            self._keep(follower, Pair(f"{first.title.en} 2", f"{first.title.ko} 2"))

    def _is_taken(self, title: Pair) -> bool:
        return title.en.lower() in self._taken or title.ko in self._taken

    def _keep(self, film: Film, title: Pair) -> None:
        self._taken |= {title.en.lower(), title.ko}
        film.title = title


def _polished(title: Pair) -> Pair:
    english = re.sub(r"\b([Aa]) (?=[AEIOU])", r"\1n ", title.en)
    english = re.sub(r"([^aeiou])ys\b", r"\1ies", english)
    english = re.sub(r"(ch|sh|x|ss)s\b", r"\1es", english)
    return Pair(english, title.ko)
