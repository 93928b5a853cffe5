"""Directors and actors of the invented films: careers, fame, favoured genres, old friends."""

import random
from dataclasses import dataclass, field
from typing import Any

from movie_mlops.data.processors.sample_words import names

_GENRE_CIRCLES = (
    ("Drama", "Romance", "Music", "Family"), ("Action", "Crime", "Thriller", "War"),
    ("Comedy", "Family", "Romance", "Animation"), ("Horror", "Mystery", "Thriller", "Fantasy"),
    ("Science Fiction", "Adventure", "Fantasy", "Animation"),
    ("History", "War", "Drama", "Western"), ("Documentary", "Music", "History", "Drama"),
)  # fmt: skip


@dataclass(slots=True)
class Person:
    """Someone with a career; `skill` is about -1.5 … 1.5, `fame` 0.4 … 5."""

    number: int
    name: str
    original_name: str
    first_year: int
    last_year: int
    genres: frozenset[str]
    fame: float
    skill: float
    friends: list["Person"] = field(default_factory=list)

    def credit(self) -> dict[str, Any]:
        """The fields TMDB gives for a person in a list of credits."""
        return {"id": self.number, "name": self.name, "original_name": self.original_name}

    def suits(self, year: int, genres: list[str]) -> float:
        """How readily one hires them: 0 outside their career."""
        if not self.first_year <= year <= self.last_year:
            return 0.0
        return (0.4 + self.fame) * (1.0 + 3.0 * (genres[0] in self.genres))


class Troupe:
    """The people of one language, enough of them for `films` films."""

    def __init__(self, language: str, films: float, rng: random.Random) -> None:
        self._language = language
        self._taken: set[str] = set()
        self._base = (1 + sorted(names()).index(language)) * 1_000_000
        self._directors = [self._newcomer(rng) for _ in range(8 + int(films * 0.16))]
        self._actors = [self._newcomer(rng) for _ in range(24 + int(films * 0.42))]

    def hire(self, year: int, genres: list[str], rng: random.Random) -> tuple[Person, list[Person]]:
        """A director and three to eight actors, first billed first."""
        director = self._pick(self._directors, year, genres, rng)
        friends = rng.sample(director.friends, min(2, len(director.friends)))
        cast = [one for one in friends if one.suits(year, genres) and rng.random() < 0.6]
        size = rng.randint(3, 8)
        for _ in range(40):
            if len(cast) >= size:
                break
            actor = self._pick(self._actors, year, genres, rng)
            if actor not in cast and actor is not director:
                cast.append(actor)
        cast.sort(key=lambda person: -person.fame * rng.uniform(0.5, 1.5))
        director.friends = [*director.friends, *cast[:2]][-6:]
        return director, cast

    def _pick(
        self, people: list[Person], year: int, genres: list[str], rng: random.Random
    ) -> Person:
        tried = rng.sample(people, min(24, len(people)))
        weights = [person.suits(year, genres) for person in tried]
        if not any(weights):
            person = self._newcomer(rng, year)
            people.append(person)
            return person
        return rng.choices(tried, weights)[0]

    def _newcomer(self, rng: random.Random, year: int | None = None) -> Person:
        words = names()[self._language]
        for _ in range(60):
            family, given = rng.choice(words["f"]), rng.choice(words["g"])
            korean = self._language == "ko"
            name = f"{family.en} {given.en}" if korean else f"{given.en} {family.en}"
            if name not in self._taken:
                break
        else:
            name = f"{given.en} {rng.choice('ABDEGHJKLMNPRSTW')}. {family.en}"
        self._taken.add(name)
        start = min(2020, 1926 + int(92 * rng.betavariate(2.2, 1.0))) if year is None else year - 2
        return Person(
            self._base + len(self._taken),
            name,
            f"{family.ko}{given.ko}" if korean else name,
            start,
            start + rng.randint(18, 46),
            frozenset(rng.sample(rng.choice(_GENRE_CIRCLES), 3)),
            min(5.0, rng.paretovariate(1.5) - 0.6),
            rng.gauss(0.0, 0.7),
        )
