"""Does `sasrec` gain from knowing the time between two acts? Chosen on validation, never on test.

Data: a MovieLens folder, and simulated people (whose times tell nothing that their order does
not). Each user's last film, the test's, is taken away first; then the last film or one near it is
hidden (the split for choosing settings), and networks with and without the bias, equal epochs and
seeds, rank it among all films.

    python benchmarks/time_bias.py --data ml-latest-small [--seeds 3] [--epochs 12] [--jobs 2]
        [--docs docs/benchmarks]

Prints the table; --docs writes `time-bias.md` there. Some 14 minutes of CPU.
"""

import argparse
import itertools
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from sample_world import sample_world

from movie_mlops.data.crawlers.base import no_progress
from movie_mlops.models.algorithms import create
from movie_mlops.models.algorithms.base import TrainingHistories
from movie_mlops.models.training.evaluation import bootstrap, evaluate, paired_difference
from movie_mlops.models.training.histories import build_histories
from movie_mlops.models.training.splitters import Split, leave_last_out, leave_near_last_out
from movie_mlops.models.training.trainer import fit_measured
from movie_mlops.pipelines.evaluation import Evaluation, read_split

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "order only": {},
    "order and time": {"time_bias": True},
}
METRICS = ("ndcg@10", "hit_rate@10")
SIMULATED = "simulated"
FILMS, PEOPLE, WATCHES, SEED = 500, 600, 60, 42
MORE_PASSES = 2  # over the simulated people, who did a third as much
COLUMNS = ("NDCG@10", "of the seeds", "HR@10", "of the seeds", "NDCG@10 gained", "CPU s a fit")


@dataclass(frozen=True, slots=True)
class Job:
    """One fit: which data, which variant, which seed."""

    data: str
    variant: str
    seed: int


def validation(data: str) -> Split:
    """What is trained on and the films hidden from it; the test's films are gone."""
    if data == SIMULATED:
        return leave_near_last_out(leave_last_out(simulate()).train, SEED)
    split, _ = read_split(Evaluation(Path(data), "leave-last-out"), no_progress)
    return leave_near_last_out(split.train, SEED)


def simulate() -> TrainingHistories:
    """The sample catalogue's people, and what they watched."""
    movies, interactions = sample_world(FILMS, PEOPLE, WATCHES, SEED)
    return build_histories(interactions, movies["movie_id"].to_numpy())


def fit(job: Job, epochs: int) -> dict[str, Any]:
    """Per-user figures of one network, and what it cost."""
    split = validation(job.data)
    passes = epochs * MORE_PASSES if job.data == SIMULATED else epochs
    model = create("sasrec", epochs=passes, **VARIANTS[job.variant])
    fitted = fit_measured(lambda: model.fit(split.train, job.seed))
    found = evaluate(fitted.model, split, SEED).per_user
    size = f"{len(split.users):,} people, {split.train.item_count:,} films, "
    size += f"{len(split.train.items):,} training interactions"
    print(job, {name: round(float(found[name].mean()), 4) for name in METRICS}, file=sys.stderr)
    return {
        "seconds": fitted.cpu_seconds, "size": size, **{name: found[name] for name in METRICS}
    }  # fmt: skip


def table(done: Mapping[Job, Mapping[str, Any]], data: str) -> str:
    """A Markdown table of one data set."""
    lines = ["| sasrec knows | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    base = _mean([of for job, of in done.items() if _is(job, data, next(iter(VARIANTS)))])
    for variant in VARIANTS:
        runs = [of for job, of in done.items() if _is(job, data, variant)]
        mean, cells = _mean(runs), [variant]
        for name in METRICS:
            over = bootstrap(mean[name], SEED)
            each = " ".join(f"{of[name].mean():.4f}" for of in runs)
            cells += [f"{over.value:.4f} ({over.low:.3f}–{over.high:.3f})", each]
        gain = paired_difference(mean["ndcg@10"], base["ndcg@10"], SEED)
        told = f"{gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})"
        cells.append("–" if mean is base or variant == next(iter(VARIANTS)) else told)
        cells.append(f"{np.mean([of['seconds'] for of in runs]):.0f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _is(job: Job, data: str, variant: str) -> bool:
    return (job.data, job.variant) == (data, variant)


def _mean(runs: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Each user's figures, averaged over the seeds."""
    return {name: np.mean([of[name] for of in runs], axis=0) for name in METRICS}


def page(done: Mapping[Job, Mapping[str, Any]], data: str, seeds: int, epochs: int) -> str:
    """The tables with what is needed to read them."""
    name = Path(data).name
    head = (
        f"`python benchmarks/time_bias.py --data {name} --seeds {seeds} --epochs {epochs}`. "
        "Validation films only (the test's are taken away before): per person the last film that "
        "is left, or one up to five places before it, ranked among all films not watched. "
        f"{seeds} seeds, {epochs} epochs each ({epochs * MORE_PASSES} over the simulated); a "
        "figure is the mean over the seeds with its 95 % bootstrap interval over people, beside "
        "it that of every seed. What is gained is paired by person."
    )
    parts = [head]
    for of in (data, SIMULATED):
        size = next(run["size"] for job, run in done.items() if job.data == of)
        parts.append(f"## {Path(of).name}\n\n{size}.\n\n{table(done, of)}")
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--jobs", type=int, default=1, help="fits at once, one thread each")
    parser.add_argument("--docs", type=Path)
    args = parser.parse_args()
    jobs = [
        Job(data, variant, seed)
        for data, seed, variant in itertools.product(
            (args.data, SIMULATED), range(1, args.seeds + 1), VARIANTS
        )
    ]
    with ProcessPoolExecutor(args.jobs, get_context("spawn")) as pool:
        found = pool.map(fit, jobs, [args.epochs] * len(jobs))
        done = dict(zip(jobs, found, strict=True))
    text = page(done, args.data, args.seeds, args.epochs)
    print(text)
    if args.docs:
        args.docs.mkdir(parents=True, exist_ok=True)
        head = "# What time tells beside order\n\n"
        (args.docs / "time-bias.md").write_text(head + text)


if __name__ == "__main__":
    main()
