"""Cost of training: a million positive interactions of 6,000 simulated people with 3,700 films.

    python benchmarks/training.py [--repeat 3] [--algorithm sequence_linear] [--json]

Each fit runs in a process of its own, which loads the histories, fits once and tells its CPU
seconds (all threads) and its peak resident memory (interpreter and data included).
"""

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from movie_mlops.data.crawlers.base import no_progress
from movie_mlops.models.algorithms import RECOMMENDERS, create
from movie_mlops.models.algorithms.base import TrainingHistories
from movie_mlops.models.training.histories import build_histories
from movie_mlops.models.training.trainer import fit_measured

FILMS, PEOPLE, WATCHES, SEED = 3_700, 6_000, 190, 42
CPU_SECONDS, MEMORY_MB = 30.0, 1_536.0  # the promise for sequence_linear


def simulate(folder: Path) -> TrainingHistories:
    """The sample catalogue in large, its people, and what they watched."""
    from movie_mlops.data.crawlers.sample import SampleCrawler
    from movie_mlops.data.lake import Lake
    from movie_mlops.data.processors.tastes import simulate_people
    from movie_mlops.data.tables import MOVIES

    lake = Lake(folder)
    crawler = SampleCrawler(films=FILMS, seed=SEED)
    crawler.fetch(lake.raw(crawler.source), no_progress)
    with lake.connect() as connection:
        crawler.stage(lake.raw(crawler.source), connection)
        lake.replace(MOVIES, connection)
    movies = lake.read(MOVIES.name)
    world = simulate_people(
        movies, people=PEOPLE, watches_per_person=WATCHES, seed=SEED,
        end=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    return build_histories(world.interactions, movies["movie_id"].to_numpy())


def fit_here(path: Path, algorithm: str) -> None:
    """Fit once in this process and print what it cost."""
    with np.load(path) as kept:
        histories = TrainingHistories(
            kept["movie_ids"], tuple(kept["users"].tolist()), kept["indptr"], kept["items"]
        )
    done = fit_measured(lambda: create(algorithm).fit(histories))
    cost = {"train_cpu_seconds": done.cpu_seconds, "peak_memory_mb": done.peak_memory_mb}
    print(json.dumps({name: round(value, 2) for name, value in cost.items()}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--algorithm", choices=RECOMMENDERS, default="sequence_linear")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--fit", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.fit:
        fit_here(chosen.fit, chosen.algorithm)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        histories = simulate(Path(folder))
        path = Path(folder) / "histories.npz"
        np.savez(
            path, movie_ids=histories.movie_ids, users=np.array(histories.user_ids),
            indptr=histories.indptr, items=histories.items,
        )  # fmt: skip
        command = [sys.executable, __file__, "--fit", str(path), "--algorithm", chosen.algorithm]
        runs = [
            json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            for _ in range(chosen.repeat)
        ]
    return report(chosen, histories, runs)


def report(
    chosen: argparse.Namespace, histories: TrainingHistories, runs: list[dict[str, float]]
) -> int:
    """Print; exit code 1 when `sequence_linear` costs more than promised."""
    worst = {name: max(run[name] for run in runs) for name in runs[0]}
    kept = worst["train_cpu_seconds"] <= CPU_SECONDS and worst["peak_memory_mb"] <= MEMORY_MB
    if chosen.json:
        size = {
            "users": histories.user_count,
            "items": histories.item_count,
            "interactions": len(histories.items),
        }
        print(json.dumps({"algorithm": chosen.algorithm, **size, "runs": runs, "kept": kept}))
    else:
        print(
            f"{chosen.algorithm}: {len(histories.items):,} interactions of "
            f"{histories.user_count:,} people with {histories.item_count:,} films"
        )
        print(f"{'run':>4} {'CPU s':>8} {'peak MB':>8}")
        for number, run in enumerate(runs, 1):
            print(f"{number:>4} {run['train_cpu_seconds']:>8.1f} {run['peak_memory_mb']:>8.0f}")
        print(
            f"promise: {CPU_SECONDS:.0f} CPU s, {MEMORY_MB:.0f} MB: {'kept' if kept else 'BROKEN'}"
        )
    return int(chosen.algorithm == "sequence_linear" and not kept)


if __name__ == "__main__":
    sys.exit(main())
