"""How cost grows: training with interactions, serving with films, memory with users.

    python benchmarks/growth.py [--most-interactions 20000000] [--docs docs/benchmarks] [--quick]

Everything is generated: films are drawn by a power law, each person from a neighbourhood of the
catalogue, so that there is something to learn. Each point runs in a process of its own, once;
seconds are CPU seconds of that process, memory its peak, interpreter and data included.
Prints a table; --docs writes `growth.md` and `growth.png` there.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from movie_mlops.models.algorithms import create, load
from movie_mlops.models.algorithms.base import TrainingHistories
from movie_mlops.models.training.trainer import fit_measured

SEED, WATCHES = 42, 100
TRAINED = ("sequence_linear", "linear_softmax", "ease", "implicit_als")
SERVED = "blend"
LISTS = 300


def histories(interactions: int, films: int) -> TrainingHistories:
    """People with WATCHES films each: popular ones of their own neighbourhood of the catalogue."""
    rng = np.random.default_rng(SEED)
    people = interactions // WATCHES
    home = rng.integers(0, films, people)
    drawn = (films * rng.power(0.35, (people, WATCHES)) / 3).astype(np.int64)
    items = (home[:, None] + drawn) % films
    items = (items * 7_919 + 13) % films if films % 7_919 else items  # no order in the ids
    return TrainingHistories(
        np.arange(1, films + 1),
        tuple(map(str, range(people))),
        np.arange(0, people * WATCHES + 1, WATCHES),
        items.reshape(-1).astype(np.int32),
    )


def train(algorithm: str, interactions: int) -> dict[str, Any]:
    films = min(max(interactions // 270, 400), 20_000)
    data = histories(interactions, films)
    done = fit_measured(lambda: create(algorithm).fit(data, SEED))
    return {"films": films, "cpu_seconds": done.cpu_seconds, "peak_mb": done.peak_memory_mb}


def fit_films(films: int, folder: str) -> dict[str, Any]:
    """Fit the served model and write its bundle and manifest."""
    from movie_mlops.domain.versions import MOVIE_RECOMMENDER, Alias
    from movie_mlops.models.bundle import save_bundle
    from movie_mlops.models.manifest import Entry, point

    members = [("linear_softmax", {"epochs": 1}, 1.0), ("sequence_linear", {}, 400.0)]
    model = create(SERVED, members=members).fit(histories(40_000, films), SEED)
    arrays, card = model.artifact()
    sha = save_bundle(Path(folder) / "m/1", arrays, card | {"snapshot": "s"})
    entry = Entry("1", "m/1", sha, "s", SERVED)
    point(Path(folder), MOVIE_RECOMMENDER, Alias.CHAMPION, entry)
    modelled = [member.get("modelled_films") for member in card["members"]]
    return {"modelled": modelled, "bundle_mb": sum(a.nbytes for a in arrays.values()) / 2**20}


def serve_films(films: int) -> dict[str, Any]:
    """Lists made anew by the service of the API: scores, hidden films, best ten, reasons."""
    with tempfile.TemporaryDirectory() as folder:
        fitted = point_of("fit", films, folder)
        return fitted | point_of("lists", films, folder)


def make_lists(films: int, folder: str) -> dict[str, Any]:
    """Serve what `fit_films` left, one list after the other, on one BLAS thread like the API."""
    import polars as pl

    from movie_mlops.data.tables import MOVIES
    from movie_mlops.domain.interactions import UserId
    from movie_mlops.models.serving.catalogue import Catalogue
    from movie_mlops.models.serving.model_loader import ModelLoader
    from movie_mlops.models.serving.recommender import RecommendationService

    filled = {
        "movie_id": pl.Series(np.arange(1, films + 1)), "title": pl.lit("Film"),
        "genres": pl.Series([["Drama"]] * films), "directors": pl.Series([[]] * films),
        "cast": pl.Series([[]] * films), "vote_count": pl.lit(1), "popularity": pl.lit(1.0),
        "adult": pl.lit(value=False),
    }  # fmt: skip
    movies = pl.select(
        filled.get(name, pl.lit(None)).cast(kind).alias(name)  # type: ignore[union-attr]
        for name, kind in MOVIES.schema.items()
    )
    catalogue = Catalogue(lambda: movies)
    catalogue.reload()
    loader = ModelLoader(Path(folder), load)
    loader.reload()
    service = RecommendationService(loader, _people(histories(40_000, films), 1_000), catalogue)
    service.prepare()
    service.recommend(UserId(str(LISTS)), 10)
    seconds = []
    for user in range(LISTS):
        begun = time.perf_counter()
        made = service.recommend(UserId(str(user)), 10)
        seconds.append(time.perf_counter() - begun)
        if (made.path, len(made.items)) != ("personal", 10):
            raise SystemExit(f"no list of ten for {user}: {made}")
    low, high = np.quantile(seconds, (0.5, 0.99)) * 1000
    return {"list_p50_ms": low, "list_p99_ms": high, "rss_mb": _rss_mb()}


def serve_users(users: int) -> dict[str, Any]:
    """Histories of so many users, twenty films each."""
    from movie_mlops.models.serving.histories import Histories
    from movie_mlops.models.serving.history_arrays import flat_arrays

    watched = 20
    rng = np.random.default_rng(SEED)
    before = _rss_mb()
    count = users * watched
    acts = {
        "movies": rng.integers(1, 10_000, count), "times": np.arange(count),
        "positive": np.ones(count, bool), "tokens": np.zeros(count, np.int64),
    }  # fmt: skip
    names = [f"user_{number}" for number in range(users)]
    ends = (np.arange(1, users + 1) * watched).tolist()
    people = Histories(200, flat_arrays(names, ends, acts))
    del acts, ends, names
    chosen = [f"user_{user}" for user in rng.integers(0, users, 5_000)]
    begun = time.perf_counter()
    known = sum(len(people.of(name).films) > 0 for name in chosen)
    if known != len(chosen):
        raise SystemExit("a user is missing")
    return {
        "memory_mb": _rss_mb() - before,
        "look_up_us": 1e6 * (time.perf_counter() - begun) / len(chosen),
    }


def _people(data: TrainingHistories, users: int) -> Any:
    from movie_mlops.models.serving.histories import Histories
    from movie_mlops.models.serving.history_arrays import flat_arrays

    users = min(users, data.user_count)
    items = data.items[: data.indptr[users]]
    acts = {
        "movies": data.movie_ids[items], "times": np.arange(len(items)),
        "positive": np.ones(len(items), bool), "tokens": np.zeros(len(items), np.int64),
    }  # fmt: skip
    return Histories(
        200, flat_arrays(list(data.user_ids[:users]), data.indptr[1 : users + 1], acts)
    )


def _rss_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


KINDS = {
    "train": train, "films": serve_films, "fit": fit_films, "lists": make_lists,
    "users": serve_users,
}  # fmt: skip


def point_of(kind: str, *arguments: Any) -> dict[str, Any]:
    """One measurement in a process of its own."""
    command = [sys.executable, __file__, "--point", kind, *map(str, arguments)]
    env = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env)
    return json.loads(done.stdout.splitlines()[-1])


def train_sizes(name: str, sizes: list[int], longest: float) -> list[dict[str, Any]]:
    """Until the next size would take too long."""
    points: list[dict[str, Any]] = []
    for size in sizes:
        last = points[-1] if points else {"cpu_seconds": 0.0, "size": size}
        if last["cpu_seconds"] * size / last["size"] > longest:
            break
        points.append({"size": size} | point_of("train", name, size))
        print(name, points[-1], file=sys.stderr, flush=True)
    return points


def measure_all(sizes: list[int], steps: int, longest: float) -> dict[str, Any]:
    """All points; `sizes` are those of training, `steps` how many of films and users."""
    found: dict[str, Any] = {"train": {}, "films": [], "users": []}
    for name in TRAINED:
        found["train"][name] = train_sizes(name, sizes, longest)
    for kind in ("films", "users"):
        for size in (10**3, 10**4, 10**5, 10**6)[:steps]:
            found[kind].append({"size": size} | point_of(kind, size))
            print(kind, found[kind][-1], file=sys.stderr, flush=True)
    return found


def draw(found: dict[str, Any], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3)
    for name, points in found["train"].items():
        left.loglog(
            [p["size"] for p in points], [p["cpu_seconds"] for p in points], "o-", label=name
        )
    left.set(title="Training", xlabel="interactions", ylabel="CPU seconds")
    left.legend()
    films = found["films"]
    for key in ("list_p50_ms", "list_p99_ms"):
        middle.loglog([p["size"] for p in films], [p[key] for p in films], "o-", label=key)
    middle.set(title="One list made anew", xlabel="films", ylabel="milliseconds")
    middle.legend()
    users = found["users"]
    right.loglog([p["size"] for p in users], [p["memory_mb"] for p in users], "o-")
    right.set(title="Histories in memory", xlabel="users", ylabel="MB")
    figure.savefig(path, dpi=120, metadata={"Software": None})


def table(found: dict[str, Any]) -> str:
    lines = ["| training | interactions | films | CPU s | peak MB |", "|---|---|---|---|---|"]
    for name, points in found["train"].items():
        lines += [
            f"| {name} | {p['size']:,} | {p['films']:,} | {p['cpu_seconds']:.1f} "
            f"| {p['peak_mb']:,.0f} |"
            for p in points
        ]
    lines += ["", "| films | list p50 ms | list p99 ms | process MB |", "|---|---|---|---|"]
    lines += [
        f"| {p['size']:,} | {p['list_p50_ms']:.2f} | {p['list_p99_ms']:.2f} | {p['rss_mb']:,.0f} |"
        for p in found["films"]
    ]
    lines += ["", "| users | histories MB | look-up µs |", "|---|---|---|"]
    lines += [
        f"| {p['size']:,} | {p['memory_mb']:,.0f} | {p['look_up_us']:.1f} |" for p in found["users"]
    ]
    return "\n".join(lines)


def write_page(docs: Path, found: dict[str, Any], text: str, longest: float) -> None:
    docs.mkdir(parents=True, exist_ok=True)
    draw(found, docs / "growth.png")
    head = (__doc__ or "").replace("    python", "`python").replace("--quick]", "--quick]`")
    page = f"# How cost grows\n\n{head.partition('Prints')[0].strip()}\n\nA size whose training"
    page += f" would take more than {longest:.0f} CPU s is left out.\n\n{text}\n"
    (docs / "growth.md").write_text(page + "\n![growth](growth.png)\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--most-interactions", type=int, default=20_000_000)
    parser.add_argument(
        "--longest-seconds", type=float, default=120, help="skip larger sizes after"
    )
    parser.add_argument("--quick", action="store_true", help="the smallest two of each")
    parser.add_argument("--docs", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--point", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.point:
        kind, *rest = args.point
        print(json.dumps(KINDS[kind](*(int(one) if one.isdigit() else one for one in rest))))
        return
    steps = 2 if args.quick else 9
    sizes = [n for n in (10**5, 10**6, 5 * 10**6, 2 * 10**7) if n <= args.most_interactions]
    found = measure_all(sizes[:steps], steps, args.longest_seconds)
    text = table(found)
    print(text)
    if args.docs:
        write_page(args.docs, found, text, args.longest_seconds)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
