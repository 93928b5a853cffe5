"""The rating champion against the guide's forest on the same rows, several random 80/20 splits.

Data: a folder with IMDb's title.basics and title.ratings (films with at least 100 votes).

    python benchmarks/rating.py --data FOLDER --seeds 5 --json rating.json
"""

import argparse
import json
import statistics
import tempfile
from functools import partial
from pathlib import Path

from movie_mlops.data.crawlers.imdb import ImdbCrawler
from movie_mlops.data.lake import Lake
from movie_mlops.data.tables import MOVIES
from movie_mlops.models.algorithms import REGRESSORS, create
from movie_mlops.models.training.rating import measure, rated_films, rating_rows, split_rows
from movie_mlops.models.training.trainer import fit_measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder))
        crawler = ImdbCrawler(args.data)
        crawler.fetch(lake.raw("imdb"))
        with lake.connect() as connection:
            crawler.stage(lake.raw("imdb"), connection)
            lake.replace(MOVIES, connection)
        films = rated_films(lake.read("movies"))
    figures: dict[str, dict[str, list[float]]] = {name: {} for name in REGRESSORS}
    for seed in range(1, args.seeds + 1):
        train, held = split_rows(len(films), seed)
        (rows, ratings), (held_rows, truth) = rating_rows(films[train]), rating_rows(films[held])
        for name in REGRESSORS:
            fitted = fit_measured(partial(create(name).fit, rows, ratings, seed))
            report = measure(fitted.model.predict(held_rows), truth, 0.9, seed, samples=100)
            values = {key: found.value for key, found in report.metrics.items()}
            values |= {"cpu_seconds": fitted.cpu_seconds, "peak_mb": fitted.peak_memory_mb}
            for key, value in values.items():
                figures[name].setdefault(key, []).append(value)
            shown = "  ".join(f"{key} {value:.4f}" for key, value in values.items())
            print(f"seed {seed} {name:<14}{shown}", flush=True)
    print(f"\n{len(films):,} films, {args.seeds} splits\n{'':<30}{'min':>9}{'mean':>9}{'max':>9}")
    for name, found in figures.items():
        for key, values in found.items():
            label = f"{name} {key}"
            mean = statistics.mean(values)
            print(f"{label:<30}{min(values):>9.4f}{mean:>9.4f}{max(values):>9.4f}")
    if args.json:
        args.json.write_text(json.dumps({"films": len(films), "figures": figures}, indent=1))


if __name__ == "__main__":
    main()
