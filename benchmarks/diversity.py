"""What the diversity dial costs and gains: quality, coverage, calibration for five positions.

    python benchmarks/diversity.py [--algorithm blend] [--json]
    python benchmarks/diversity.py --archive ../shared/data/ml-latest-small

Without an archive: the sample source's 1,000 invented films and simulated people. One near-last
film per person is hidden (validation data: the last films are left alone), the model is fitted on
the rest, and each person's best films are re-ranked. `ndcg@10` has its 95 % bootstrap interval
over people; `coverage@10` is the share of the catalogue in any list, `calibration@10` the mean
divergence (nats) of a list's genres from those of the history: 0 is the same mix.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
from sample_world import sample_world

from movie_mlops.domain.movies import GENRES
from movie_mlops.models.algorithms import create
from movie_mlops.models.serving.reranking import mean_mix, pool, rerank
from movie_mlops.models.training.evaluation import (
    TOP,
    Rankings,
    batches,
    beyond_accuracy,
    bootstrap,
    top_films,
)
from movie_mlops.models.training.histories import build_histories
from movie_mlops.models.training.splitters import Split, leave_near_last_out

DIALS = (0.0, 0.25, 0.5, 0.75, 1.0)
PEOPLE, WATCHES, SEED = 2_000, 60, 42
_COLUMNS = "user_id, movie_id, interaction_type, rating::DOUBLE AS rating, timestamp, line"
Table = tuple[Split, list[list[str]]]


def sample() -> Table:
    """The sample catalogue, its people, and what they watched."""
    movies, interactions = sample_world(1_000, PEOPLE, WATCHES, SEED)
    return _table(interactions, movies, every_rating=False)


def archive(where: Path, folder: Path) -> Table:
    """A MovieLens archive; every rating counts."""
    from movie_mlops.data.crawlers.movielens import MovieLensCrawler

    crawler = MovieLensCrawler(str(where))
    crawler.fetch(folder)
    with duckdb.connect() as connection:
        crawler.stage(folder, connection)
        rows = connection.sql(f"SELECT {_COLUMNS} FROM raw_interactions").pl()  # noqa: S608
        films = connection.sql("SELECT movie_id, genres FROM raw_movies").pl()
    return _table(rows, films, every_rating=True)


def _table(rows: pl.DataFrame, movies: pl.DataFrame, *, every_rating: bool) -> Table:
    histories = build_histories(rows, movies["movie_id"].to_numpy(), every_rating=every_rating)
    known = dict(zip(movies["movie_id"].to_list(), movies["genres"].to_list(), strict=True))
    genres = [known[film] or [] for film in histories.movie_ids.tolist()]
    return leave_near_last_out(histories, SEED), genres


def mixes_of(genres: list[list[str]]) -> Any:
    """The films' genres in equal parts, as serving has them."""
    mixes = np.zeros((len(genres), len(GENRES)), np.float32)
    for row, of in enumerate(genres):
        for name in set(of) & set(GENRES):
            mixes[row, GENRES.index(name)] = 1
    return mixes / np.maximum(mixes.sum(axis=1, keepdims=True), 1)


def lists(model: Any, split: Split, mixes: Any) -> dict[float, Any]:
    """The first ten films of every person [users, TOP], per position of the dial."""
    made: dict[float, list[Any]] = {dial: [] for dial in DIALS}
    for start, stop in batches(len(split.users), split.train.item_count):
        histories = [split.train.of(user) for user in split.users[start:stop]]
        scores = model.score(histories)
        for row, history in enumerate(histories):
            scores[row, history] = -np.inf
        best = top_films(scores, pool(TOP))
        for row, history in enumerate(histories):
            candidates = best[row][best[row] >= 0]
            wanted = mean_mix(mixes[history])
            for dial, of_dial in made.items():
                of_scores = scores[row, candidates]
                chosen = rerank(of_scores, mixes[candidates], wanted, TOP, dial)
                top = candidates[chosen]
                of_dial.append(np.pad(top, (0, TOP - len(top)), constant_values=-1))
    return {dial: np.stack(of_dial) for dial, of_dial in made.items()}


def figures(split: Split, genres: list[list[str]], top: Any) -> dict[str, float]:
    """One row of the table; ranks beyond the list count as missed."""
    hits = top == split.targets[:, None]
    places = np.where(hits.any(axis=1), hits.argmax(axis=1) + 1.0, np.inf)
    quality = bootstrap(1 / np.log2(places + 1), SEED)
    found = beyond_accuracy(Rankings(split, places, places, top), genres)
    return {
        "ndcg@10": quality.value,
        "low": quality.low,
        "high": quality.high,
        "coverage@10": found["coverage@10"],
        "calibration@10": found["calibration@10"],
    }


def main() -> None:
    """Fit, re-rank, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--archive", type=Path)
    parser.add_argument("--algorithm", default="blend")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        split, genres = archive(given.archive, where) if given.archive else sample()
    model = create(given.algorithm).fit(split.train, SEED)
    tops = lists(model, split, mixes_of(genres))
    rows = {dial: figures(split, genres, top) for dial, top in tops.items()}
    if given.json:
        print(json.dumps(rows))
        return
    print(f"{given.algorithm}, {len(split.users):,} people, {split.train.item_count:,} films")
    print("| dial | ndcg@10 | 95 % interval | coverage@10 | calibration@10 |")
    print("|---|---|---|---|---|")
    for dial, row in rows.items():
        print(
            f"| {dial:g} | {row['ndcg@10']:.4f} | {row['low']:.4f} - {row['high']:.4f} "
            f"| {row['coverage@10']:.3f} | {row['calibration@10']:.3f} |"
        )


if __name__ == "__main__":
    main()
