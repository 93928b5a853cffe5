"""Every recommender on one data set, with RecTools' SASRec and HSTU as peers on the same split.

Data: what `movie-mlops evaluate` takes (MovieLens folder or archive, a home, the NCF paper's
files). The peers run in an environment of their own, because RecTools needs NumPy 1: it is made
with `uv` in the folder --peers (a few hundred MB); without --peers they are left out.

    python benchmarks/quality.py --data ml-latest-small [--peers FOLDER] [--docs docs/benchmarks]

Prints the table; --docs writes `quality-NAME.md` and `quality-NAME.png` there.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from movie_mlops.models.algorithms.base import FloatArray, TrainingHistories
from movie_mlops.models.training.evaluation import evaluate
from movie_mlops.models.training.splitters import Split
from movie_mlops.pipelines.evaluation import Evaluation, evaluate_recommenders, read_split

PEERS = ("rectools_sasrec", "rectools_hstu")
PINS = ("rectools[torch]==0.19.0", "torch==2.13.0", "setuptools<81")
COLUMNS = (
    "ndcg@10", "hit_rate@10", "sampled_ndcg@10", "sampled_hit_rate@10", "coverage@10",
    "train_cpu_seconds", "peak_memory_mb", "bundle_mb", "list_ms",
)  # fmt: skip


class PeerScores:
    """Scores that a peer left in a file, user by user, as a `Scorer`."""

    def __init__(self, split: Split, scores: FloatArray) -> None:
        self.movie_ids = split.train.movie_ids
        self._of = {
            split.train.of(user).tobytes(): scores[place] for place, user in enumerate(split.users)
        }

    def score(self, histories: Any) -> FloatArray:
        """One row of scores per history, in order."""
        return np.stack([self._of[history.tobytes()] for history in histories])


def peer_environment(folder: Path) -> Path:
    """The interpreter of the peers' environment, made when it is not there."""
    python = folder / "bin" / "python"
    if not python.exists():
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([uv, "venv", "-q", "-p", "3.11", folder], check=True)
        subprocess.run([uv, "pip", "install", "-q", "--python", python, *PINS], check=True)
    return python


def run_peer(python: Path, name: str, split: Split, seed: int, epochs: int) -> dict[str, Any]:
    """Fit and score one peer in its own process; figures beside ours."""
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "split.npz", Path(folder) / "scores.npy"
        train: TrainingHistories = split.train
        times = train.times if train.times is not None else np.arange(len(train.items))
        np.savez(
            given, indptr=train.indptr, items=train.items, times=times, users=split.users,
            films=train.item_count,
        )  # fmt: skip
        command = [python, Path(__file__).with_name("rectools_peer.py"), given, found, name]
        threads = {"OMP_NUM_THREADS": "2"}
        done = subprocess.run(
            [*map(str, command), str(seed), str(epochs)],
            check=True, stdout=subprocess.PIPE, text=True, env=os.environ | threads,
        )  # fmt: skip
        cost = json.loads(done.stdout.splitlines()[-1])
        report = evaluate(PeerScores(split, np.load(found)), split, seed)
    return report.to_json() | cost


def table(figures: dict[str, Any]) -> str:
    """A Markdown table; intervals in parentheses."""

    def cell(value: Any) -> str:
        if value is None:
            return "–"
        if isinstance(value, dict):
            return f"{value['value']:.4f} ({value['low']:.3f}–{value['high']:.3f})"
        return f"{value:.3g}" if value < 10 else f"{value:,.0f}"

    lines = [
        "| algorithm | " + " | ".join(COLUMNS) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for name, found in figures["algorithms"].items():
        lines.append(f"| {name} | " + " | ".join(cell(found.get(c)) for c in COLUMNS) + " |")
    return "\n".join(lines)


def page(figures: dict[str, Any], name: str, protocol: str, peer_epochs: int) -> str:
    """The table with what is needed to read it."""
    head = (
        f"`python benchmarks/quality.py --data {name} --protocol {protocol}`: "
        f"{figures['users']:,} people, {figures['items']:,} films, "
        f"{figures['training_interactions']:,} training interactions, seed {figures['seed']}, one "
        "run; 95 % bootstrap intervals over people. Memory is that of the whole process, `list_ms` "
        "the CPU time of one list with its reasons."
    )
    if any(peer in figures["algorithms"] for peer in PEERS):
        head += f" RecTools' networks were trained for {peer_epochs} epochs, full softmax."
    reasons = "\n".join(f"- {n}: {why}" for n, why in figures["gate"]["reasons"].items())
    return f"{head}\n\n{table(figures)}\n\nThe gate, cheapest first:\n\n{reasons}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--protocol", default="leave-last-out")
    parser.add_argument("--algorithms", default="")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--peers", type=Path, help="folder of the peers' environment")
    parser.add_argument("--peer-epochs", type=int, default=20)
    parser.add_argument("--docs", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    def progress(what: str, done: int, total: int | None) -> None:
        del done, total
        print(what, file=sys.stderr, flush=True)

    names = tuple(name for name in args.algorithms.split(",") if name)
    name = args.data.resolve().name
    pictures = args.docs / "pictures" / name if args.docs else None
    wanted = Evaluation(args.data, args.protocol, names, args.seed, pictures)
    figures = evaluate_recommenders(wanted, progress)
    if args.peers:
        python = peer_environment(args.peers)
        split, _ = read_split(wanted, progress)
        for peer in PEERS:
            progress(peer, 0, None)
            figures["algorithms"][peer] = run_peer(python, peer, split, args.seed, args.peer_epochs)
    text = page(figures, name, args.protocol, args.peer_epochs)
    print(text)
    if args.docs:
        args.docs.mkdir(parents=True, exist_ok=True)
        picture = f"![metrics](pictures/{name}/metrics.png)"
        whole = f"# Quality on {name}\n\n{text}\n{picture}\n"
        (args.docs / f"quality-{name}.md").write_text(whole)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
