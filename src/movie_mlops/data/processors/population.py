"""People with tastes: who they are, what they like, and how they answer a list of films."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from movie_mlops.data.processors.sample_words import names, with_particles
from movie_mlops.data.tables import PEOPLE
from movie_mlops.domain.movies import GENRES, GENRES_KO

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float32]]

_MOODS = 10  # hidden qualities of films that no column tells
_TASTE, _ERA, _MOOD, _QUALITY = 1.5, 0.9, 0.75, 0.45
_ENGLISH_GENRES = {
    "Science Fiction": "science fiction", "TV Movie": "TV films", "Family": "family films",
    "History": "period films", "Music": "music films", "War": "war films",
    "Animation": "animated films", "Documentary": "documentaries", "Thriller": "thrillers",
    "Western": "westerns", "Action": "action films", "Adventure": "adventures",
    "Crime": "crime films", "Mystery": "mysteries", "Drama": "dramas", "Comedy": "comedies",
    "Romance": "romances",
}  # fmt: skip


@dataclass(frozen=True)
class Films:
    """What the simulation knows of each film; rows are films."""

    movie_id: np.ndarray
    year: np.ndarray
    genres: Floats  # F x 19, the main genre weighs 1, others 0.5
    mood: Floats  # F x 10, directors have moods and their films share them
    quality: Floats  # F, standardised rating
    popularity: Floats  # F, logarithm of popularity, standardised
    chain: np.ndarray  # F, place on one long string of kindred films: genre, mood, director, year


@dataclass(frozen=True)
class Population:
    """Simulated people and the films they choose from; rows are people.

    Made by `draw_population`. Users are "1" … "N". `late` is where their taste drifts to over
    the simulated time.
    """

    films: Films
    seed: int
    age: np.ndarray
    name: list[str]
    name_ko: list[str]
    taste: Floats  # P x 19
    late: Floats  # P x 19
    mood: Floats  # P x 10
    era: Floats  # P, the year they like best
    era_width: Floats  # P
    popularity_bias: Floats  # P
    activity: Floats  # P, mean 1
    kindness: Floats  # P, how high they rate

    def __len__(self) -> int:
        return len(self.age)

    def people(self) -> pl.DataFrame:
        """The people table: names and a one-line taste in both languages."""
        lines = [self._taste_line(person) for person in range(len(self))]
        return pl.DataFrame(
            {
                "user_id": [str(number) for number in range(1, len(self) + 1)],
                "name": self.name,
                "name_ko": self.name_ko,
                "age": self.age,
                "taste": [english for english, _ in lines],
                "taste_ko": [korean for _, korean in lines],
            },
            schema=PEOPLE.schema,
        )

    def utility(self, people: np.ndarray, films: np.ndarray | slice | None = None) -> Floats:
        """How much each of `people` (0-based) wants each of `films` (rows): P x F, float32."""
        chosen = slice(None) if films is None else films
        f = self.films
        wants = _TASTE * (self.taste[people] @ f.genres[chosen].T)
        wants += _MOOD * (self.mood[people] @ f.mood[chosen].T)
        distance = (f.year[chosen] - self.era[people, None]) / self.era_width[people, None]
        wants -= _ERA * np.minimum(distance**2, 4.0).astype(np.float32)
        wants += _QUALITY * f.quality[chosen]
        wants += self.popularity_bias[people, None] * f.popularity[chosen]
        result: Floats = wants.astype(np.float32)
        return result

    def drift(self, people: np.ndarray) -> Floats:
        """How much more each of `people` wants each film at the end than at the start: P x F."""
        result: Floats = (self.late[people] - self.taste[people]) @ self.films.genres.T
        return result

    def shifted(self, strength: float, genre: str = "Horror") -> "Population":
        """The same people after a fashion: all want `genre` more by `strength` (2 is plenty)."""
        fashion = np.zeros(len(GENRES), dtype=np.float32)
        fashion[GENRES.index(genre)] = strength
        return replace(self, taste=self.taste + fashion, late=self.late + fashion)

    def watch_probability(self, user_id: str, movie_ids: Sequence[int]) -> Floats:
        """P(watches | shown in this order) for each film of a list; 0 for unknown films.

        Rises with the person's taste, falls with the place in the list (1/log2(place + 1)).
        """
        person = int(user_id) - 1
        rows = np.searchsorted(self.films.movie_id, movie_ids)
        rows = np.minimum(rows, len(self.films.movie_id) - 1)
        known = self.films.movie_id[rows] == np.asarray(movie_ids)
        wants = self.utility(np.array([person]))[0]
        appeal = (wants[rows] - np.quantile(wants, 0.9)) / max(float(wants.std()), 1e-6)
        seen = 1.0 / np.log2(np.arange(len(rows)) + 2.0)
        result: Floats = (known * seen * 0.6 / (1.0 + np.exp(-2.0 * appeal))).astype(np.float32)
        return result

    def _taste_line(self, person: int) -> tuple[str, str]:
        order = np.argsort(-self.taste[person], kind="stable")
        first, second, worst = (GENRES[order[i]] for i in (0, 1, -1))
        decade = int(self.era[person]) // 10 * 10
        en = [_ENGLISH_GENRES.get(name, name.lower()) for name in (first, second, worst)]
        ko = [GENRES_KO[name] for name in (first, second, worst)]
        lines = (
            (f"{en[0].capitalize()} first, then {en[1]}, best from the {decade}s",
             f"{decade}년대 {ko[0]} 먼저, 그다음은 {ko[1]}"),
            (f"Loves {en[0]} and {en[1]}, walks out of {en[2]}",
             f"{ko[0]}·{ko[1]} 좋아함, {ko[2]} 사절"),
            (f"Anything from the {decade}s with {en[0]} in it",
             f"{decade}년대 {ko[0]} 영화라면 무엇이든"),
            (f"Somewhere between {en[0]} and {en[1]}, never {en[2]}",
             with_particles(f"{ko[0]}[과] {ko[1]} 사이 어딘가")),
            (f"{en[0].capitalize()} on weekdays, {en[1]} on Sundays",
             f"평일엔 {ko[0]}, 일요일엔 {ko[1]}"),
        )  # fmt: skip
        return lines[person % len(lines)]


def draw_population(movies: pl.DataFrame, people: int, seed: int) -> Population:
    """People with latent tastes for the films of the movies table; the same seed, the same people.

    Args:
        movies: rows of the movies table.
        people: how many.
        seed: of all draws.
    """
    rng = np.random.default_rng(seed)
    films = _describe(movies.sort("movie_id"), rng)
    age = np.clip(rng.gamma(6.0, 6.0, people), 12, 84).astype(np.int64)
    taste = _tastes(films, people, rng)
    # a third of the people change their mind within the simulated time
    other = _tastes(films, people, rng)
    share = (rng.random(people) < 0.35)[:, None] * rng.uniform(0.3, 0.8, (people, 1))
    end = int(films.year.max(initial=2000))
    era = np.minimum(end, end - age + rng.normal(24, 9, people))
    activity = rng.lognormal(0.0, 0.75, people)
    korean, english = _names(people, rng)
    return Population(
        films=films,
        seed=seed,
        age=age,
        name=english,
        name_ko=korean,
        taste=taste,
        late=(taste * (1 - share) + other * share).astype(np.float32),
        mood=rng.normal(0.0, 1.0, (people, _MOODS)).astype(np.float32),
        era=era.astype(np.float32),
        era_width=rng.uniform(9, 30, people).astype(np.float32),
        popularity_bias=rng.gamma(4.0, 0.22, people).astype(np.float32),
        activity=(activity / activity.mean()).astype(np.float32),
        kindness=rng.normal(3.6, 0.4, people).astype(np.float32),
    )


def _describe(movies: pl.DataFrame, rng: np.random.Generator) -> Films:
    genres = np.zeros((len(movies), len(GENRES)), dtype=np.float32)
    for row, listed in enumerate(movies["genres"].to_list()):
        for place, name in enumerate(listed):
            if name in GENRES:
                genres[row, GENRES.index(name)] = 1.0 if place == 0 else 0.5
    first = movies["directors"].list.first()
    director = first.fill_null("").rank("dense").to_numpy().astype(np.int64)
    of_director = rng.normal(0.0, 0.8, (int(director.max(initial=0)) + 1, _MOODS))
    own = rng.normal(0.0, 0.6, (len(movies), _MOODS))
    unknown = first.is_null().to_numpy()
    mood = np.where(unknown[:, None], own * 1.7, of_director[director] + own)
    mood = mood.astype(np.float32) / 2.0
    year = movies["year"].fill_null(strategy="mean").fill_null(2000).to_numpy()
    return Films(
        movie_id=movies["movie_id"].to_numpy(),
        year=year.astype(np.int64),
        genres=genres,
        mood=mood,
        quality=_standardised(movies["vote_average"].fill_null(strategy="mean").fill_null(6.0)),
        popularity=_standardised(movies["popularity"].log1p()),
        chain=_chain(year, director, mood, genres),
    )


def _chain(year: np.ndarray, director: np.ndarray, mood: Floats, genres: Floats) -> np.ndarray:
    strung = np.lexsort((year, director, np.argmax(mood, axis=1), np.argmax(genres, axis=1)))
    place: np.ndarray = np.empty(len(strung), dtype=np.int64)
    place[strung] = np.arange(len(strung))
    return place


def _standardised(values: pl.Series) -> Floats:
    numbers = values.to_numpy().astype(np.float64)
    result: Floats = ((numbers - numbers.mean()) / max(numbers.std(), 1e-9)).astype(np.float32)
    return result


def _tastes(films: Films, people: int, rng: np.random.Generator) -> Floats:
    """Two to four loved genres, one or two disliked; common genres are loved more often."""
    common = np.log(films.genres.sum(axis=0) + 0.02)
    loved = np.argsort(-(0.6 * common + rng.gumbel(size=(people, len(GENRES)))), axis=1)
    taste = rng.normal(0.0, 0.25, (people, len(GENRES)))
    for place, strength in enumerate((1.5, 1.1, 0.7, 0.4)):
        has = 1.0 if place < 2 else rng.random(people) < 0.6
        taste[np.arange(people), loved[:, place]] += strength * has
    for place in (6, 8):  # disliked ones are common too: a rare genre is nobody's complaint
        taste[np.arange(people), loved[:, place]] -= 1.2
    result: Floats = taste.astype(np.float32)
    return result


def _names(people: int, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    words = names()["ko"]
    given = words["g"]
    family = words["f"]
    # Kim, Lee and Park are as common as they are
    weights = 1.0 / (np.arange(len(family)) + 1.5)
    families = rng.choice(len(family), people, p=weights / weights.sum())
    givens = np.concatenate([rng.permutation(len(given)) for _ in range(people // len(given) + 1)])[
        :people
    ]
    pairs = [(family[f], given[g]) for f, g in zip(families, givens, strict=True)]
    korean = [f"{f.ko}{g.ko}" for f, g in pairs]
    return korean, [f"{g.en} {f.en}" for f, g in pairs]
