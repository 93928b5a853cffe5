"""People with tastes and what they do: watches in sessions with themes, ratings, likes, views."""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl

from movie_mlops.data.processors.population import Population, draw_population
from movie_mlops.data.tables import INTERACTIONS

_CELLS = 3_000_000  # person-film cells at once: some 40 MB of work memory
_SPAN_DAYS = 540
_SESSION_FILMS = 3
_DAY = 86_400
_SEOUL_OFFSET = 9 * 3600  # evenings are Korean ones
_CHASE = 0.5  # how often a film is followed by the next of its kind
_TEMPTATION, _TEMPTED = 2.0, 0.3  # how much, and how often, a film makes one want its next
_THEMES = 3  # of each genre


@dataclass(frozen=True)
class SimulatedPeople:
    """The people and interactions tables, and the population that can answer and be shifted."""

    people: pl.DataFrame
    interactions: pl.DataFrame
    population: Population


def simulate_people(
    movies: pl.DataFrame, *, people: int, watches_per_person: int, seed: int, end: datetime
) -> SimulatedPeople:
    """People with tastes and what they did until `end`; same arguments, same rows.

    Args:
        movies: rows of the movies table.
        people: how many; users "1" … "people".
        watches_per_person: mean number of watched films, at least 2.
        seed: of all draws.
        end: aware; nothing is later.
    """
    population = draw_population(movies, people, seed)
    acts = simulate_interactions(population, end, watches_per_person)
    return SimulatedPeople(population.people(), acts, population)


def simulate_interactions(population: Population, end: datetime, mean_watches: int) -> pl.DataFrame:
    """Acts of all people in the 18 months before `end`, as rows of the interactions table.

    Everyone watches films they want, each once; films of a theme come in runs, and after a film
    often comes its next of kin (same mood, same director), so the order tells something. Same
    population, end and mean, same rows; sorted by time, `line` counts them.

    Args:
        population: who.
        end: aware; nothing is later.
        mean_watches: mean number of watched films of a person, at least 2.
    """
    rng = np.random.default_rng([population.seed, 1])
    person, film = _choose(population, mean_watches, rng)
    order = _arrange(population, person, film, rng)
    person, film = person[order], film[order]
    seconds = _times(person, len(population), rng)
    last = int(end.astimezone(UTC).timestamp())
    seconds += last // _DAY * _DAY - _SEOUL_OFFSET
    released = population.films.year[film]
    watched_in = 1970 + (seconds // 31_556_952)
    keep = released <= watched_in  # nobody watches a film before it exists
    acts = _acts(population, person[keep], film[keep], seconds[keep], rng)
    frame = acts.filter(pl.col("seconds") <= last)
    frame = frame.sort(["seconds", "person", "interaction_type"], maintain_order=True)
    return frame.select(
        (pl.col("person") + 1).cast(pl.String).alias("user_id"),
        pl.Series("movie_id", population.films.movie_id[frame["film"].to_numpy()]),
        pl.col("interaction_type"),
        pl.col("rating"),
        (pl.col("seconds") * 1_000_000).cast(pl.Datetime("us", "UTC")).alias("timestamp"),
        pl.int_range(pl.len(), dtype=pl.Int64).alias("line"),
    ).cast(INTERACTIONS.schema)  # type: ignore[arg-type]


def _choose(
    population: Population, mean_watches: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Who watches what, in the order of wanting: Gumbel noise on the utility, the top n."""
    films = len(population.films.movie_id)
    counts = np.clip(np.round(population.activity * mean_watches), 2, max(2, films * 0.6))
    counts = np.minimum(counts.astype(np.int64), films)
    most = int(counts.max())
    strung = np.argsort(population.films.chain)
    following = strung[(population.films.chain + 1) % films]
    picked: list[np.ndarray] = []
    step = max(1, _CELLS // films)
    for start in range(0, len(population), step):
        people = np.arange(start, min(start + step, len(population)))
        noise = rng.standard_exponential((len(people), films), dtype=np.float32)
        keys = population.utility(people) - np.log(np.maximum(noise, 1e-30))
        wanted = _best(keys, most)
        row, place = np.nonzero(np.arange(most) < counts[people, None])
        tempted = rng.random(len(row)) < _TEMPTED
        kin = following[wanted[row, place][tempted]]
        keys[row[tempted], kin] += _TEMPTATION
        ranked = _best(keys, most)
        picked.append(np.column_stack([people[row], ranked[row, place]]))
    person, film = np.concatenate(picked).T
    return person, film


def _best(keys: np.ndarray, count: int) -> np.ndarray:
    """Columns of the `count` highest keys of each row, the highest first."""
    found = np.argpartition(-keys, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(keys, found, axis=1), axis=1)
    return np.take_along_axis(found, order, axis=1)


def _arrange(
    population: Population, person: np.ndarray, film: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The order in which each person watches: themes come in runs, kindred films in a row."""
    films = population.films
    theme = np.argmax(films.mood @ rng.normal(size=(films.mood.shape[1], _THEMES)), axis=1)
    theme = theme * len(films.genres.T) + np.argmax(films.genres, axis=1)
    wanted_later = np.empty(len(person), dtype=np.float32)
    step = max(1, _CELLS // len(films.movie_id))
    for start in range(0, len(population), step):
        rows = slice(*np.searchsorted(person, [start, start + step]))
        people = np.arange(start, min(start + step, len(population)))
        wanted_later[rows] = population.drift(people)[person[rows] - start, film[rows]]
    # a theme is taken up in a few runs; drift moves what is liked later towards the end
    run = rng.integers(0, 2, len(person))
    block = (person * (int(theme.max()) + 1) + theme[film]) * 2 + run
    _, number = np.unique(block, return_inverse=True)
    moment = rng.random(int(number.max()) + 1)[number] + 0.5 * wanted_later
    moment += np.where(rng.random(len(person)) < 0.2, rng.normal(0, 0.6, len(person)), 0.0)
    order = np.lexsort((rng.random(len(person)), moment, person))
    place = np.empty(len(order))
    place[order] = np.arange(len(order))
    # next of kin, where both were watched: right behind each other, half of the time
    kin = np.lexsort((films.chain[film], person))
    before, after = kin[:-1], kin[1:]
    near = films.chain[film[after]] - films.chain[film[before]] == 1
    near &= (person[before] == person[after]) & (rng.random(len(near)) < _CHASE)
    for index in np.nonzero(near)[0]:  # one after the other, for chains
        place[after[index]] = place[before[index]] + 1e-3
    return np.lexsort((place, person))


def _times(person: np.ndarray, people: int, rng: np.random.Generator) -> np.ndarray:
    """Seconds before the end (negative), rising for each person: evenings, up to three films."""
    first = np.r_[True, person[1:] != person[:-1]]
    starts = np.nonzero(first)[0]
    films = np.diff(np.r_[starts, len(person)])  # of each person that has any
    fresh = first | (rng.random(len(person)) < 0.5)
    fresh |= _in_session(fresh) % _SESSION_FILMS == 0
    gap = np.where(fresh, rng.exponential(1.0, len(person)) + 0.02, 0.0)
    elapsed = np.cumsum(gap)
    elapsed -= np.repeat(elapsed[starts], films)
    share = elapsed / np.repeat(np.maximum.reduceat(elapsed, starts) + 1e-9, films)
    session = np.cumsum(fresh)
    session -= np.repeat(session[starts], films)
    # people came at different times, most are still here
    since = rng.uniform(0.35, 1.0, people)[person] * _SPAN_DAYS
    until = np.where(rng.random(people) < 0.8, 1.0, rng.uniform(20, 180, people))[person]
    days = np.floor(share * np.maximum(since - until, 1)) + session  # never two in one day
    days -= np.repeat(np.maximum.reduceat(days, starts), films) + until + 1
    evening = rng.normal(19.5, 1.2, int(fresh.sum()))[np.cumsum(fresh) - 1].clip(15, 22.5)
    hours = evening + _in_session(fresh) * 2.4 + rng.uniform(0, 0.3, len(person))
    seconds: np.ndarray = (np.floor(days) * _DAY + hours * 3600).astype(np.int64)
    return seconds


def _in_session(fresh: np.ndarray) -> np.ndarray:
    """Place of each film in its session, from 0."""
    position = np.arange(len(fresh))
    place: np.ndarray = position - np.maximum.accumulate(np.where(fresh, position, 0))
    return place


def _acts(
    population: Population,
    person: np.ndarray,
    film: np.ndarray,
    seconds: np.ndarray,
    rng: np.random.Generator,
) -> pl.DataFrame:
    """Watches and what comes with them; lists that were shown and not watched are views."""
    count = len(person)
    liking = _liking(population, person, film) + rng.normal(0.0, 0.55, count)
    stars = np.clip(np.round((population.kindness[person] + 0.85 * liking) * 2) / 2, 0.5, 5.0)
    seen = rng.random(count)
    rated = rng.random(count) < 0.4
    liked = (stars >= 4.0) & (rng.random(count) < 0.3)
    disliked = (stars <= 2.0) & (rng.random(count) < 0.4)
    clicked = seen < 0.35
    minutes = rng.integers(100, 150, count)
    shown = np.exp(population.films.popularity)
    passed = rng.choice(len(shown), count, p=shown / shown.sum())
    parts = [
        ("watch", np.ones(count, dtype=bool), film, seconds),
        ("view", seen < 0.5, passed, seconds - rng.integers(60, 600, count)),
        ("click", clicked, film, seconds - rng.integers(5, 60, count)),
        ("rating", rated, film, seconds + minutes * 60),
        ("like", liked, film, seconds + minutes * 60 + 5),
        ("dislike", disliked, film, seconds + minutes * 60 + 5),
    ]
    frames = [
        pl.DataFrame(
            {
                "person": person[mask],
                "film": films[mask],
                "rating": np.full(int(mask.sum()), np.nan) if kind != "rating" else stars[mask],
                "seconds": when[mask],
            }
        ).with_columns(pl.lit(kind).alias("interaction_type"), pl.col("rating").fill_nan(None))
        for kind, mask, films, when in parts
    ]
    return pl.concat(frames)


def _liking(population: Population, person: np.ndarray, film: np.ndarray) -> np.ndarray:
    """How well each watched film suited its watcher, standardised over all."""
    f = population.films
    suited = np.einsum("ij,ij->i", population.taste[person], f.genres[film])
    suited += np.einsum("ij,ij->i", population.mood[person], f.mood[film]) + 0.8 * f.quality[film]
    standardised: np.ndarray = (suited - suited.mean()) / max(float(suited.std()), 1e-9)
    return standardised
