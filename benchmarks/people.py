"""What directors and actors add to the rating champion: cross-validated, with its interval.

Data: a folder with Kaggle's "TMDB 5000" (tmdb_5000_movies.csv[.gz], tmdb_5000_credits.csv[.gz]).
Films with at least 20 votes; the same folds with and without people; the gain is the paired
difference of squared errors, with a 95 % bootstrap interval over films.

    python benchmarks/people.py --data FOLDER [--folds 5] [--json people.json]
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from movie_mlops.models.algorithms import create
from movie_mlops.models.algorithms.base import RatingRows
from movie_mlops.models.training.evaluation import paired_difference

LEAST_VOTES = 20


def names(text: str, count: int | None = None, job: str | None = None) -> list[str]:
    people: list[dict[str, Any]] = json.loads(text or "[]")
    return [one["name"] for one in people if job is None or one.get("job") == job][:count]


def read(folder: Path) -> tuple[RatingRows, np.ndarray]:
    def table(name: str) -> pl.DataFrame:
        path = next(folder.glob(f"tmdb_5000_{name}.csv*"))
        return pl.read_csv(path, infer_schema_length=10_000)

    people = table("credits").rename({"movie_id": "id"}).select("id", "cast", "crew")
    films = table("movies").join(people, on="id").filter(pl.col("vote_count") >= LEAST_VOTES)
    columns = films.to_dict(as_series=False)
    numbers = films.select(
        pl.col("release_date").cast(pl.String).str.slice(0, 4).cast(pl.Float64, strict=False),
        pl.col("runtime").cast(pl.Float64),
        pl.col("vote_count").cast(pl.Float64),
        pl.col("vote_average").cast(pl.Float64),
    ).fill_null(float("nan")).to_numpy()  # fmt: skip
    rows = RatingRows(
        [str(title) for title in columns["title"]],
        [str(title) for title in columns["original_title"]],
        numbers[:, 0],
        numbers[:, 1],
        numbers[:, 2],
        [names(text) for text in columns["genres"]],
        np.zeros(len(films), bool),
        [names(text, job="Director") for text in columns["crew"]],
        [names(text, 5) for text in columns["cast"]],
    )
    return rows, numbers[:, 3]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows, ratings = read(args.data)
    folds = np.random.default_rng(42).permutation(len(rows)) % args.folds
    errors = {"without people": np.empty(len(rows)), "with people": np.empty(len(rows))}
    for fold in range(args.folds):
        train, held = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        for name, used in (
            ("without people", replace(rows, directors=(), cast=())),
            ("with people", rows),
        ):
            model = create("boosted").fit(used.take(train), ratings[train], seed=42)
            errors[name][held] = model.predict(used.take(held)).rating - ratings[held]
        print(f"fold {fold + 1} of {args.folds}", flush=True)
    spread = float(((ratings - ratings.mean()) ** 2).mean())
    figures: dict[str, Any] = {
        name: {"rmse": float(np.sqrt((of**2).mean())), "r2": 1 - float((of**2).mean()) / spread}
        for name, of in errors.items()
    }
    gain = paired_difference(errors["without people"] ** 2, errors["with people"] ** 2, seed=42)
    figures |= {
        "films": len(rows),
        "r2_gain": [v / spread for v in (gain.value, gain.low, gain.high)],
    }
    for name in errors:
        print(f"{name:<16} RMSE {figures[name]['rmse']:.4f}  R2 {figures[name]['r2']:.4f}")
    value, low, high = figures["r2_gain"]
    print(
        f"{len(rows):,} films, {args.folds} folds: "
        f"people add {value:.4f} R2 ({low:.4f} to {high:.4f})"
    )
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
