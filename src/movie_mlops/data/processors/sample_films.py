"""Invents films: TMDB-shaped records with careers, eras, plots and a spread of votes."""

import math
import random
from datetime import date
from typing import Any

from movie_mlops.data.processors.catalog import GENRE_IDS, Record
from movie_mlops.data.processors.sample_people import Troupe
from movie_mlops.data.processors.sample_titles import Film, TitleMaker
from movie_mlops.data.processors.sample_words import Pair, fill, fitting, names, sentence, stories

LAST_YEAR = 2026
_LANGUAGES = {"ko": 34, "en": 36, "ja": 8, "fr": 6, "es": 5, "it": 3, "de": 3, "zh": 3, "hi": 2}
_COUNTRIES = {"ko": "KR", "en": "US", "ja": "JP", "fr": "FR", "es": "ES", "it": "IT", "de": "DE",
              "zh": "CN", "hi": "IN"}  # fmt: skip

_SEASONS = [
    Pair("winter", "겨울"),
    Pair("spring", "봄"),
    Pair("summer", "여름"),
    Pair("autumn", "가을"),
]
_DATED_SHARE = 0.3

_GENRES = {
    # weight, usual companions, mean runtime, weight before 1975, mean rating
    "Drama": (20, "Romance Family History Crime Music", 113, 1.0, 6.7),
    "Comedy": (13, "Romance Family Crime Drama", 101, 1.1, 6.2),
    "Thriller": (10, "Crime Mystery Drama Action Horror", 108, 0.8, 6.3),
    "Action": (10, "Thriller Adventure Crime Science_Fiction", 112, 0.6, 6.1),
    "Romance": (8, "Drama Comedy Music", 106, 1.1, 6.4),
    "Horror": (8, "Thriller Mystery Fantasy", 97, 0.7, 5.8),
    "Science Fiction": (7, "Adventure Thriller Drama Action", 115, 0.6, 6.3),
    "Crime": (6, "Thriller Drama Mystery", 112, 1.2, 6.6),
    "Animation": (5, "Family Adventure Fantasy Comedy", 92, 0.3, 6.9),
    "Mystery": (4, "Thriller Crime Drama", 107, 1.0, 6.4),
    "Adventure": (4, "Action Family Fantasy", 114, 1.0, 6.3),
    "Fantasy": (4, "Adventure Romance Family", 112, 0.5, 6.3),
    "Family": (3, "Comedy Adventure Drama", 96, 0.8, 6.4),
    "Documentary": (3, "Music History", 91, 0.4, 7.1),
    "History": (2.5, "Drama War", 126, 1.4, 6.8),
    "War": (2.5, "Drama History Action", 121, 2.0, 6.8),
    "Music": (2, "Drama Romance Comedy", 106, 1.2, 6.7),
    "Western": (1.5, "Action Drama Adventure", 106, 5.0, 6.4),
}


def invent_films(count: int, seed: int) -> list[Record]:
    """`count` films with ids 1…count; the same count and seed give the same films."""
    rng = random.Random(seed)  # noqa: S311 - films, not secrets
    troupes = {
        language: Troupe(language, weight * count / 100, rng)
        for language, weight in _LANGUAGES.items()
    }
    films = [_draw_film(number, troupes, rng) for number in range(1, count + 1)]
    TitleMaker(rng).name_all(films)
    plots = _Plots(rng)
    for film in films:
        film.plot = plots.tell(film)
    return [_record(film) for film in films]


def _draw_film(number: int, troupes: dict[str, Troupe], rng: random.Random) -> Film:
    year = min(LAST_YEAR, 1930 + int(97 * rng.betavariate(2.5, 0.95)))
    main = _main_genre(year, rng)
    if main == "Western":
        language = rng.choices(["en", "it", "ko"], [85, 11, 4])[0]
    else:
        language = rng.choices([*_LANGUAGES], [*_LANGUAGES.values()])[0]
    _, usual, minutes, _, mean = _GENRES[main]
    companions = [name.replace("_", " ") for name in usual.split()]
    genres = [main, *rng.sample(companions, rng.choices([0, 1, 2], [25, 50, 25])[0])]
    director, cast = troupes[language].hire(year, genres, rng)
    fame = math.log1p(sum(person.fame for person in cast[:3]) + director.fame)
    rating = min(9.1, max(2.6, rng.gauss(mean + 0.55 * director.skill + (1990 - year) / 160, 0.62)))
    age = LAST_YEAR - year
    reach = rng.gauss(4.1 + 0.9 * fame + 0.35 * (rating - 6.3) - 0.012 * age, 1.05)
    votes = int(math.exp(reach) * (0.4 if age == 0 else 1.0))
    popularity = round(
        math.exp(0.55 * reach - 0.6 + 1.5 * math.exp(-age / 2) + rng.gauss(0, 0.45)), 3
    )
    runtime = int(max(62, min(212, rng.gauss(minutes - max(0, 1960 - year) * 0.5, 12))))
    place = rng.choice(stories()[main].lists.get("p") or names()[language]["p"])
    month = rng.randint(1, 10 if year == LAST_YEAR else 12)
    released = date(year, month, rng.randint(1, 28))
    return Film(number, released, language, place, genres, director, cast,
                popularity, votes, round(rating, 1 if votes < 20 else 3), runtime)  # fmt: skip


def _main_genre(year: int, rng: random.Random) -> str:
    weights = [
        weight * (early if year < 1975 else 1.0) for weight, _, _, early, _ in _GENRES.values()
    ]
    return rng.choices([*_GENRES], weights)[0]


class _Plots:
    """Every pattern of a genre comes once before any comes again; no plot twice if it can be."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._unused: dict[str, list[Pair]] = {}
        self._told: set[str] = set()

    def tell(self, film: Film) -> Pair:
        for _ in range(20):
            plot = self._draw(film)
            if plot.en not in self._told:
                break
        self._told.add(plot.en)
        return plot

    def _draw(self, film: Film) -> Pair:
        genre, rng = film.genres[0], self._rng
        words = stories()[genre]
        fresh = fitting(self._unused.get(genre, []), film.year)
        if not fresh:
            self._unused[genre] = [*words["-"]]
            fresh = fitting(words["-"], film.year)
        pattern = rng.choice(fresh)
        self._unused[genre].remove(pattern)
        if pattern.en.startswith("{w}") and rng.random() < _DATED_SHARE:
            when = rng.choice(_SEASONS)
            pattern = Pair(f"In the {when.en} of {film.year}, {pattern.en}",
                           f"{film.year}년 {when.ko}, {pattern.ko}")  # fmt: skip
        slots = {"w": rng.choice(words["w"]), "p": film.place}
        return sentence(fill(pattern, slots, rng))


def _record(film: Film) -> Record:
    title = film.title
    ids = [GENRE_IDS[name] for name in film.genres]
    crew: list[dict[str, Any]] = [
        {**film.director.credit(), "job": "Director", "department": "Directing"}
    ]
    return {
        "id": film.number,
        "title": title.ko,
        "original_title": title.ko if film.language == "ko" else title.en,
        "original_language": film.language,
        "origin_country": [_COUNTRIES[film.language]],
        "overview": film.plot.ko,
        "genre_ids": ids,
        "genres": [
            {"id": number, "name": name} for number, name in zip(ids, film.genres, strict=True)
        ],
        "release_date": film.released.isoformat(),
        "runtime": film.runtime,
        "vote_average": film.rating if film.votes else 0.0,
        "vote_count": film.votes,
        "popularity": film.popularity,
        "adult": False,
        "video": False,
        "poster_path": None,
        "backdrop_path": None,
        "imdb_id": None,
        "credits": {
            "cast": [{**person.credit(), "order": place} for place, person in enumerate(film.cast)],
            "crew": crew,
        },
        "translations": {
            "translations": [
                _translation("ko", "KR", "한국어", film.title.ko, film.plot.ko),
                _translation("en", "US", "English", film.title.en, film.plot.en),
            ]
        },
    }


def _translation(code: str, country: str, name: str, title: str, plot: str) -> dict[str, Any]:
    data = {"title": title, "overview": plot, "homepage": "", "tagline": ""}
    return {"iso_639_1": code, "iso_3166_1": country, "name": name, "data": data}
