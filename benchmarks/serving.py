"""Serving under load: requests per second, latency, CPU and memory, beside an empty FastAPI route.

Builds a home of invented films and viewers, starts each system on a port of loopback and loads it
from a process of its own (`http_load.py`), all on this machine. Beside each measurement a probe
spins on two cores: below 1.8 of them another tenant was there and the row is marked invalid.
`cpu us` is the servers' CPU per request; `ratio` is the rate beside the empty route of this run.

    python benchmarks/serving.py --json serving.json --docs docs/benchmarks
    python benchmarks/serving.py --quick
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

VALID_CORES = 1.8
TAUGHT = 20_000  # viewers that models are fitted on
MOST_ANEW = 20_000  # lists that are made anew in a row
EVENTS = "/api/v1/events/user-interaction"
LIMITS = {"WRITES_PER_MINUTE": "100000000", "WRITES_BURST": "100000000"}
_EMPTY = """
import socket, sys, uvicorn
from fastapi import FastAPI
app = FastAPI()
@app.get("/")
async def empty() -> dict[str, str]:
    return {}
config = uvicorn.Config(app, log_config=None, access_log=False)
uvicorn.Server(config).run([socket.socket(fileno=int(sys.argv[1]))])
"""


@dataclass(frozen=True)
class System:
    """Something that serves: how one of its processes is started, and how many there are.

    `command` is told an open socket to take connections from; several processes take a port and
    share it.
    """

    name: str
    command: Callable[[int], list[str]]
    ready: str
    processes: int = 1
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One measurement: what is asked of which system."""

    name: str
    system: System
    requests: Callable[[], list[str]]
    connections: int = 16
    once: bool = False


def get(path: str, more: str = "") -> str:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n"


def post(path: str, body: dict[str, Any]) -> str:
    text = json.dumps(body)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(text.encode())}\r\n\r\n{text}"


def lists(viewers: int, salt: int = 1) -> list[str]:
    """A list of ten for every viewer, in random order."""
    asked = [get(f"/api/v1/recommendations?user_id=user_{n}&k=10") for n in range(1, viewers + 1)]
    random.Random(salt).shuffle(asked)  # noqa: S311
    return asked


def likes(count: int, viewers: int, films: int) -> list[str]:
    """Likes of random viewers."""
    rng = random.Random(2)  # noqa: S311
    return [
        post(
            EVENTS,
            {
                "user_id": f"user_{rng.randint(1, viewers)}",
                "movie_id": rng.randint(1, films),
                "interaction_type": "like",
            },
        )
        for _ in range(count)
    ]


def film(different: int = 1) -> list[str]:
    """One film's facts, or so many films that each is asked about but once or twice."""
    facts = {"startYear": 1999, "runtimeMinutes": 100, "genres": ["Drama"]}
    drawn = random.Random(4)  # noqa: S311 (nothing secret)
    words = ["".join(drawn.choices("aeioulnrst", k=6)) for _ in range(3_000)]
    titles = [" ".join(drawn.choices(words, k=3)).title() for _ in range(different)]
    return [
        post("/predict/movie", {"title": title, **facts, "numVotes": 5_000 + number})
        for number, title in enumerate(titles)
    ]


def new_films() -> list[str]:
    """More films than the API remembers the ratings of."""
    return film(50_000)


def _spin(seconds: float, queue: Any) -> None:
    start, until = time.process_time(), time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass
    queue.put((time.process_time() - start) / seconds)


def free_cores(seconds: float = 0.3) -> float:
    """How many of two cores this machine gives us now."""
    queue: Any = multiprocessing.SimpleQueue()
    spinners = [multiprocessing.Process(target=_spin, args=(seconds, queue)) for _ in range(2)]
    for each in spinners:
        each.start()
    for each in spinners:
        each.join()
    return sum(queue.get() for _ in spinners)


@contextmanager
def serving(system: System) -> Iterator[tuple[int, list[psutil.Process], float]]:
    """Port, processes, and seconds from the start until it answered."""
    with socket.socket() as listener:
        if system.processes > 1:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        if system.processes == 1:
            listener.listen(1024)
        with tempfile.TemporaryDirectory() as samples:
            environment = os.environ | system.environment
            if system.processes > 1:
                environment["PROMETHEUS_MULTIPROC_DIR"] = samples
            start = time.perf_counter()
            children = [
                subprocess.Popen(
                    system.command(port if system.processes > 1 else listener.fileno()),
                    env=environment,
                    pass_fds=(listener.fileno(),),
                    stderr=subprocess.DEVNULL,
                )
                for _ in range(system.processes)
            ]
            try:
                wait_for(f"http://127.0.0.1:{port}{system.ready}", children)
                seconds = time.perf_counter() - start
                if system.processes > 1:
                    time.sleep(2 * seconds)  # the others are not slower than the first
                yield port, [psutil.Process(child.pid) for child in children], seconds
            finally:
                for child in children:
                    child.send_signal(signal.SIGTERM)
                for child in children:
                    child.wait(30)


def wait_for(url: str, children: Sequence["subprocess.Popen[bytes]"]) -> None:
    while True:
        if any(child.poll() is not None for child in children):
            sys.exit(f"the server of {url} ended before it answered")
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 (loopback)
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.02)


def load(
    port: int, requests: Sequence[str], connections: int, seconds: float, *more: str,
    once: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """What the load generator saw; `more` are options of its command."""
    script = Path(__file__).with_name("http_load.py")
    command = [sys.executable, str(script), "--port", str(port), "--seconds", str(seconds)]
    command += ["--connections", str(connections), *(["--once"] if once else []), *more]
    done = subprocess.run(
        command,
        input=json.dumps({"requests": requests}),
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def cpu_of(processes: Sequence[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def measure(row: Row, port: int, processes: list[psutil.Process], seconds: float) -> dict[str, Any]:
    """One row of the table."""
    requests = row.requests()
    before, cpu = free_cores(), cpu_of(processes)
    found = load(port, requests, row.connections, 600 if row.once else seconds, once=row.once)
    used = cpu_of(processes) - cpu
    found |= {
        "name": row.name,
        "cpu_us": 1e6 * used / max(found["requests"], 1),
        "client_cpu_us": 1e6 * found.pop("client_cpu_s") / max(found["requests"], 1),
        "mb": max(process.memory_info().rss for process in processes) / 2**20,
        "cores": min(before, free_cores()),
    }
    return found


# ---- the house that is served


def furnish(home: Path, films: int, viewers: int) -> None:
    """Films, histories of 40 films per viewer, a fitted recommender, two rating models."""
    import numpy as np
    import polars as pl

    from movie_mlops.data.tables import INTERACTIONS, MOVIES
    from movie_mlops.domain.movies import GENRES
    from movie_mlops.domain.versions import MOVIE_RECOMMENDER, Alias
    from movie_mlops.models.algorithms import create
    from movie_mlops.models.algorithms.base import TrainingHistories
    from movie_mlops.models.bundle import save_bundle
    from movie_mlops.models.manifest import Entry, point
    from movie_mlops.models.serving.follower import write_histories
    from movie_mlops.models.serving.histories import Histories

    rng = np.random.default_rng(0)
    rows = [
        {
            "movie_id": number, "title": f"영화 {number}", "title_en": f"The Film {number}",
            "title_ko": f"영화 {number}", "original_title": f"영화 {number}", "year": 1980,
            "runtime": 100, "genres": [GENRES[number % 19]], "overview": "A plot.",
            "directors": ["A. Director"], "cast": ["An Actor"], "vote_average": 6.0,
            "vote_count": 100, "popularity": float(films - number), "adult": False,
            "poster_url": None, "imdb_id": None,
        }
        for number in range(1, films + 1)
    ]  # fmt: skip
    folder = home / "data" / "processed"
    folder.mkdir(parents=True)
    pl.DataFrame(rows, schema=MOVIES.schema).write_parquet(folder / "movies.parquet")
    length = 40
    # popular films are watched more, and viewers keep to a part of the catalogue
    drawn = (films * rng.random((viewers, 2 * length)) ** 2).astype(np.int64)
    drawn = (drawn + rng.integers(0, 8, (viewers, 1)) * films // 8) % films
    items = np.stack(
        [rng.permutation(np.unique(row))[:length] for row in drawn if len(set(row)) >= length]
    )
    viewers = len(items)
    frame = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(1, viewers + 1), length).astype(str),
            "movie_id": items.reshape(-1) + 1,
            "interaction_type": "watch",
            "rating": None,
            "timestamp": np.datetime64("2026-01-01", "us") + np.tile(np.arange(length), viewers),
            "line": np.arange(viewers * length),
        }
    ).with_columns(pl.col("timestamp").dt.replace_time_zone("UTC"))
    frame = frame.select(
        pl.col(name).cast(kind)
        for name, kind in INTERACTIONS.schema.items()
        if name in frame.columns
    )
    serving_folder = home / "var" / "serving"
    write_histories(serving_folder, Histories.from_frame(frame, 200), "s1")
    taught = min(viewers, TAUGHT)
    training = TrainingHistories(
        movie_ids=np.arange(1, films + 1),
        user_ids=tuple(map(str, range(1, taught + 1))),
        indptr=np.arange(taught + 1) * length,
        items=items[:taught].reshape(-1).astype(np.int32),
    )
    for version, name, more in (
        ("2", "item_neighbours", {}),
        ("1", "sequence_linear", {"max_memory_mb": 64.0}),
    ):
        sha256 = save_bundle(
            serving_folder / MOVIE_RECOMMENDER / version,
            *create(name, **more).fit(training).artifact(),
        )
        entry = Entry(version, f"{MOVIE_RECOMMENDER}/{version}", sha256, "s1", name)
        point(serving_folder, MOVIE_RECOMMENDER, Alias.CHAMPION, entry)
    _rating_models(serving_folder)


def _rating_models(serving_folder: Path) -> None:
    import numpy as np

    from movie_mlops.domain.versions import MOVIE_PREDICTOR
    from movie_mlops.models.algorithms import create
    from movie_mlops.models.algorithms.base import RatingRows
    from movie_mlops.models.bundle import save_bundle

    rng, count = np.random.default_rng(0), 2_000
    films = RatingRows(
        title=[f"Film {number}" for number in range(count)],
        original_title=[f"Film {number}" for number in range(count)],
        start_year=rng.integers(1950, 2020, count).astype(float),
        runtime_minutes=rng.integers(60, 180, count).astype(float),
        num_votes=rng.integers(100, 10_000, count).astype(float),
        genres=[["Drama"]] * count,
        adult=np.zeros(count, np.bool_),
    )
    ratings = 4 + films.runtime_minutes / 60 + rng.normal(0, 0.3, count)
    for name, rounds in (("boosted", 1_500), ("one_tree", 1)):
        model = create("boosted", rounds=rounds).fit(films, ratings)
        save_bundle(serving_folder / MOVIE_PREDICTOR / name, *model.artifact())


def choose(home: Path, model: str, version: str, algorithm: str) -> None:
    """Let the manifest name another version, as a promotion does."""
    import hashlib

    from movie_mlops.domain.versions import Alias
    from movie_mlops.models.manifest import Entry, point

    folder = home / "var" / "serving"
    sha256 = hashlib.sha256((folder / model / version / "card.json").read_bytes()).hexdigest()
    point(
        folder, model, Alias.CHAMPION, Entry(version, f"{model}/{version}", sha256, "s1", algorithm)
    )


# ---- the measurements


def api(home: Path, processes: int = 1) -> System:
    def command(number: int) -> list[str]:
        place = ["--shared", "--port"] if processes > 1 else ["--fd"]
        begin = [sys.executable, "-m", "movie_mlops", "api", "--home", str(home)]
        return [*begin, *place, str(number)]

    limits = {f"MOVIE_MLOPS_{name}": value for name, value in LIMITS.items()}
    name = f"movie-mlops, {processes} process{'es' if processes > 1 else ''}"
    return System(name, command, "/v2/health/ready", processes, limits)


def hot_swap(home: Path, port: int, seconds: float) -> dict[str, Any]:
    """Promote back and forth under load; how many answers were no 200."""
    stop = threading.Event()

    def swap() -> None:
        names = [("2", "item_neighbours"), ("1", "sequence_linear")]
        while not stop.wait(0.7):
            choose(home, "movie_recommender", *names[0])
            names.reverse()

    thread = threading.Thread(target=swap)
    thread.start()
    found = load(port, lists(2_000), 16, seconds)
    stop.set()
    thread.join()
    found["failed"] = found["requests"] - found["statuses"].get("200", 0)
    return found


def beside_training(port: int, seconds: float) -> tuple[float, float]:
    """p99 of paced requests, idle and while a child of low priority trains on all cores."""
    code = (
        "import os, numpy as np; os.nice(10)\n"
        "a = np.random.default_rng(0).random((2000, 2000))\nwhile True: a @ a"
    )
    requests = lists(2_000)
    load(port, requests, 4, 600, once=True)  # no list has to be made
    idle = load(port, requests, 4, seconds, "--pause-ms", "5")["p99_ms"]
    with subprocess.Popen([sys.executable, "-c", code]) as training:
        time.sleep(1)
        busy = load(port, requests, 4, seconds, "--pause-ms", "5")["p99_ms"]
        training.kill()
    return idle, busy


def table(home: Path, args: argparse.Namespace) -> list[Row]:
    """All rows; those of one system stand together, it is started once for them."""
    empty = System("empty FastAPI route", lambda fd: [sys.executable, "-c", _EMPTY, str(fd)], "/")
    one, two = api(home), api(home, 2)
    viewers, films = args.viewers, args.films

    def cold() -> list[str]:
        return lists(viewers, 3)[:MOST_ANEW]

    def warm() -> list[str]:
        return lists(2_000)

    rows = [Row("empty FastAPI route", empty, lambda: [get("/")])]
    for system, name in ((one, "1 worker"), (two, "2 workers")):
        rows += [
            Row(f"lists, {name}, each made anew", system, cold, once=True),
            Row(f"lists, {name}, 2,000 viewers", system, warm),
        ]
    for connections in (16, 64):
        name = f"events, 1 worker, {connections} connections"
        rows.append(Row(name, one, lambda: likes(50_000, viewers, films), connections))
    rows.append(
        Row("events, 2 workers, 64 connections", two, lambda: likes(50_000, viewers, films), 64)
    )
    rows.append(Row("/predict/movie, 1 worker, new films", one, new_films))
    rows.append(Row("/predict/movie, 1 worker, one film", one, film))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--films", type=int, default=10_000)
    parser.add_argument("--viewers", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--home", type=Path, help="keep the home here and use it again")
    parser.add_argument("--quick", action="store_true", help="1,000 films and viewers, 1 s a row")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--docs", type=Path, help="write serving.md and serving.png here")
    args = parser.parse_args()
    if args.quick:
        args.films, args.viewers, args.seconds = 1_000, 1_000, 1.0
    home = args.home or Path(tempfile.mkdtemp())
    if not (home / "var").exists():
        furnish(home, args.films, args.viewers)
    try:
        report = run(home, args)
    finally:
        if args.home is None:
            shutil.rmtree(home)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1))
    if args.docs:
        write_page(args.docs, report, args)


def write_page(docs: Path, report: dict[str, Any], args: argparse.Namespace) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = report["rows"]
    head = "| what | req/s | ratio | p50 ms | p95 ms | p99 ms | CPU µs | MB | cores |"
    lines = [head, "|---" * 9 + "|"]
    lines += [
        f"| {row['name']} | {row['per_second']:,.0f} | {row['ratio']:.2f} × | {row['p50_ms']:.2f} "
        f"| {row['p95_ms']:.2f} | {row['p99_ms']:.2f} | {row['cpu_us']:.0f} | {row['mb']:.0f} "
        f"| {row['cores']:.2f}{'' if row['cores'] >= VALID_CORES else ' (invalid)'} |"
        for row in rows
    ]
    about = (__doc__ or "").partition("    python")[0].strip()
    size = f"{args.films:,} films, {args.viewers:,} viewers, {args.seconds:.0f} s a row, one run."
    swap = report.get("hot_swap")
    if swap:
        lines += [
            "",
            f"Promotions back and forth under load: {swap['requests']:,} requests, "
            f"{swap['failed']} failed. p99 of paced requests idle {report['p99_idle_ms']:.1f} ms, "
            f"beside a training of low priority {report['p99_training_ms']:.1f} ms.",
            "",
            f"Ready {report['ready_s']['fresh']:.1f} s after the start of one process, "
            f"{report['ready_s']['after these events']:.1f} s with the events of this run to read.",
        ]
    picture = "![requests per second](serving.png)"
    text = "\n".join(["# Serving under load", "", about, "", size, "", *lines, "", picture, ""])
    docs.mkdir(parents=True, exist_ok=True)
    (docs / "serving.md").write_text(text)
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.barh([row["name"] for row in rows], [row["per_second"] for row in rows])
    axis.set(xlabel="requests per second")
    axis.invert_yaxis()
    figure.savefig(docs / "serving.png", dpi=120, metadata={"Software": None})


def run(home: Path, args: argparse.Namespace) -> dict[str, Any]:
    print(
        f"{'':<40}{'req/s':>8}{'ratio':>7}{'p50 ms':>8}{'p95 ms':>8}{'p99 ms':>8}{'cpu us':>8}"
        f"{'client':>8}{'MB':>6}{'cores':>7}"
    )
    choose(home, "movie_predictor", "boosted", "boosted")
    found: list[dict[str, Any]] = []
    report: dict[str, Any] = {"rows": found}
    empty = 0.0
    for row in table(home, args):
        if args.only not in row.name and "empty" not in row.name:
            continue
        with serving(row.system) as (port, processes, ready):
            if not row.once:
                for _ in range(1 if row.system.processes == 1 else 8):  # so that all are warm
                    load(port, row.requests()[:2_000], 16, 600, once=True)
            made = measure(row, port, processes, args.seconds)
        empty = empty or made["per_second"]
        made |= {"ratio": made["per_second"] / empty, "ready_s": ready}
        found.append(made)
        show(made)
    extras(home, args, report)
    return report


def show(made: dict[str, Any]) -> None:
    odd = {
        status: count for status, count in made["statuses"].items() if status not in ("200", "202")
    }
    print(
        f"{made['name']:<40}{made['per_second']:>8,.0f}{made['ratio']:>7.2f}{made['p50_ms']:>8.2f}"
        f"{made['p95_ms']:>8.2f}{made['p99_ms']:>8.2f}{made['cpu_us']:>8.0f}"
        f"{made['client_cpu_us']:>8.0f}{made['mb']:>6.0f}{made['cores']:>7.2f}"
        f"{'' if made['cores'] >= VALID_CORES else ' invalid'}{f' {odd}' if odd else ''}",
        flush=True,
    )


def extras(home: Path, args: argparse.Namespace, report: dict[str, Any]) -> None:
    """Ready time, the rating route without a model's work, swaps, and training beside."""
    if args.only:
        return
    choose(home, "movie_predictor", "one_tree", "boosted")
    row = Row("/predict/movie, 1 worker, one tree", api(home), new_films)
    with serving(row.system) as (port, processes, ready):
        made = measure(row, port, processes, args.seconds)
        made |= {"ratio": made["per_second"] / report["rows"][0]["per_second"], "ready_s": ready}
        report["rows"].append(made)
        show(made)
        report["hot_swap"] = hot_swap(home, port, args.seconds)
        report["p99_idle_ms"], report["p99_training_ms"] = beside_training(port, args.seconds)
    swap = report["hot_swap"]
    print(f"\nhot swap under load: {swap['requests']} requests, {swap['failed']} failed")
    fresh = next(row["ready_s"] for row in report["rows"] if row["name"].startswith("lists"))
    report["ready_s"] = {"fresh": fresh, "after these events": ready}
    print(f"ready {fresh:.2f} s after start, {ready:.2f} s with this run's events in the log")
    idle, busy = report["p99_idle_ms"], report["p99_training_ms"]
    print(f"p99 idle {idle:.2f} ms, beside training {busy:.2f} ms ({busy / idle:.1f} times)")


if __name__ == "__main__":
    main()
