"""Which table engine at which size: checks and features on DuckDB and on Spark, one machine.

    python benchmarks/scale.py [--most 100000000] [--limit 1800] [--docs docs/benchmarks]

Everything is generated, the same each time: 100 acts per person, films drawn by a power law, one
row in a hundred bad and one in five hundred there twice. Each cell is a process of its own, run
once: `check` casts, judges and writes the interactions table, `features` computes and writes all
feature views. Seconds are those of the whole process and what it starts (interpreter and JVM
start included: that is what one waits for), memory is the peak of all of them together. DuckDB
is bounded to 1 GB and spills to disk, as always in this project; Spark's driver has --memory.
A cell that runs past --limit seconds is stopped and the larger sizes of its row are left out.
Prints a table; --docs writes `scale.md` and `scale.png` there.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

SEED, ACTS, CHUNK = 42, 100, 1_000_000
BAD, TWICE = 0.01, 0.002
SIZES = (10**5, 10**6, 10**7, 10**8)
TASKS, ENGINES = ("check", "features"), ("duckdb", "spark")
START, SECONDS = 1_600_000_000, 10**8
BYTES_PER_ROW = 120  # of disk: both files, what is staged, sorted and written
Cell = dict[str, Any]


def chunk(number: int, rows: int, size: int) -> pl.DataFrame:
    """Rows of one piece of time; `bad` marks those that the contract refuses."""
    rng = np.random.default_rng([SEED, number])
    films = films_of(size)
    kinds = np.array(["rating", "watch", "like", "view", "dislike"])
    drawn = rng.choice(len(kinds), rows, p=[0.5, 0.3, 0.1, 0.05, 0.05])
    first = number * CHUNK
    seconds = np.sort(rng.integers(0, SECONDS * rows // size, rows)) + SECONDS * first // size
    frame = pl.DataFrame(
        {
            "user_id": rng.integers(0, max(size // ACTS, 1), rows),
            "movie_id": (films * rng.power(0.35, rows)).astype(np.int64) + 1,
            "interaction_type": kinds[drawn],
            "rating": np.where(drawn == 0, rng.integers(1, 11, rows) / 2, np.nan),
            "timestamp": (START + seconds) * 1_000_000,
            "line": np.arange(first, first + rows),
            "bad": rng.random(rows) < BAD,
        }
    ).with_columns(
        pl.col("user_id").cast(pl.String),
        pl.col("rating").fill_nan(None),
        pl.col("timestamp").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
    )
    return frame.with_columns(rating=pl.when("bad").then(9.0).otherwise("rating"))


def films_of(size: int) -> int:
    return min(max(size // 270, 400), 20_000)


def generate(folder: Path, size: int) -> None:
    """`raw.parquet` with its faults, and a lake whose interactions have none."""
    import pyarrow.parquet as pq

    from movie_mlops.data.lake import Lake
    from movie_mlops.data.tables import MOVIES
    from movie_mlops.domain.movies import GENRES

    lake = Lake(folder / "lake")
    lake.processed.mkdir(parents=True)
    movies = [
        {"movie_id": film, "title": f"Film {film}", "genres": [GENRES[film % len(GENRES)]],
         "directors": [], "cast": [], "vote_count": 1, "popularity": 1.0, "adult": False}
        for film in range(1, films_of(size) + 1)
    ]  # fmt: skip
    pl.DataFrame(movies, schema=MOVIES.schema).write_parquet(lake.path("movies"))
    writers: dict[Path, Any] = {}
    for number in range(-(-size // CHUNK)):
        rows = chunk(number, min(CHUNK, size - number * CHUNK), size)
        twice = rows.head(int(TWICE * len(rows)))
        for path, frame in (
            (folder / "raw.parquet", pl.concat([rows, twice]).drop("bad")),
            (lake.path("interactions"), rows.filter(~pl.col("bad")).drop("bad")),
        ):
            table = frame.to_arrow()
            writer = writers.setdefault(path, None) or pq.ParquetWriter(path, table.schema)
            writers[path] = writer
            writer.write_table(table)
    for writer in writers.values():
        writer.close()


def run_cell(task: str, url: str, folder: Path) -> Cell:
    """One task on one engine, in this process."""
    from movie_mlops.data.engine import open_table_engine
    from movie_mlops.data.lake import Lake
    from movie_mlops.data.tables import INTERACTIONS
    from movie_mlops.features.engineering.build import build_features

    with tempfile.TemporaryDirectory(dir=folder) as work:
        engine = open_table_engine(url, Path(work) / "spill")
        if task == "features":
            lake = Lake(folder / "lake")
            rows = build_features(lake, engine)
            shutil.rmtree(lake.features)
        else:
            lake = Lake(Path(work) / "lake", engine=lambda: engine)
            with lake.connect() as connection:
                relation = f"read_parquet('{folder / 'raw.parquet'}')"
                rows = lake.replace(INTERACTIONS, connection, relation).to_json()
        engine.close()
    return {"rows": rows}


def measured(command: list[str], limit: float) -> Cell:
    """Wall and CPU seconds and peak memory of a process and all that it starts."""
    import psutil

    begun = time.perf_counter()
    env = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(command, stdout=out, stderr=errors, env=env)
        cpu: dict[int, float] = {}
        peak, over = 0.0, False
        while child.poll() is None:
            tree = _tree(psutil.Process(child.pid))
            for process, (seconds, _) in tree.items():
                cpu[process.pid] = seconds
            peak = max(peak, sum(size for _, size in tree.values()))
            over = time.perf_counter() - begun > limit
            if over:
                for process in tree:
                    process.kill()
            time.sleep(0.1)
        wall = time.perf_counter() - begun
        out.seek(0)
        errors.seek(0)
        if over:
            return {"problem": f"stopped after {limit:,.0f} s"}
        if child.returncode:
            last = (errors.read().strip().splitlines() or ["no word"])[-1]
            return {"problem": f"failed: {last[:120]}"}
        found = json.loads(out.read().splitlines()[-1])
    return {"seconds": wall, "cpu_seconds": sum(cpu.values()), "peak_mb": peak / 2**20, **found}


def _tree(root: Any) -> dict[Any, tuple[float, int]]:
    """Process to CPU seconds and resident bytes."""
    import psutil

    found = {}
    try:
        for process in (root, *root.children(recursive=True)):
            times = process.cpu_times()
            found[process] = (times.user + times.system, process.memory_info().rss)
    except psutil.NoSuchProcess:
        pass
    return found


def measure_all(sizes: list[int], urls: dict[str, str], limit: float, folder: Path) -> list[Cell]:
    cells: list[Cell] = []
    ended: set[tuple[str, str]] = set()
    for size in sizes:
        place = folder / str(size)
        if shutil.disk_usage(folder).free < size * BYTES_PER_ROW:
            need = size * BYTES_PER_ROW / 1e9
            cells += [
                {"size": size, "task": task, "engine": engine,
                 "problem": f"left out: needs {need:.0f} GB of disk"}
                for task in TASKS for engine in ENGINES
            ]  # fmt: skip
            continue
        generate(place, size)
        for task in TASKS:
            for engine, url in urls.items():
                cell: Cell = {"size": size, "task": task, "engine": engine}
                if (task, engine) in ended:
                    cell["problem"] = "left out: the size before did not end"
                else:
                    command = [sys.executable, __file__, "--cell", task, url, str(place)]
                    cell |= measured(command, limit)
                if "problem" in cell:
                    ended.add((task, engine))
                cells.append(cell)
                print(cell, file=sys.stderr, flush=True)
        _same_rows([cell for cell in cells if cell["size"] == size])
        shutil.rmtree(place)
    return cells


def _same_rows(cells: list[Cell]) -> None:
    """Both engines must have written as many rows, and refused as many for the same reasons."""
    for task in TASKS:
        found = [cell["rows"] for cell in cells if cell["task"] == task and "rows" in cell]
        if any(rows != found[0] for rows in found):
            raise SystemExit(f"{task}: the engines differ: {found}")


def pairs(cells: list[Cell]) -> list[tuple[str, int, Cell, Cell]]:
    keyed = {(cell["task"], cell["size"], cell["engine"]): cell for cell in cells}
    return [
        (task, size, keyed[task, size, "duckdb"], keyed[task, size, "spark"])
        for task in TASKS
        for size in sorted({cell["size"] for cell in cells})
    ]


def table(cells: list[Cell]) -> str:
    lines = [
        "| task | interactions | DuckDB s | CPU s | peak MB | Spark s | CPU s | peak MB "
        "| Spark ÷ DuckDB, s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for task, size, duckdb, spark in pairs(cells):
        ratio = "" if "problem" in duckdb or "problem" in spark else _ratio(duckdb, spark)
        lines.append(f"| {task} | {size:,} | {_figures(duckdb)} | {_figures(spark)} | {ratio} |")
    return "\n".join(lines)


def _figures(cell: Cell) -> str:
    if "problem" in cell:
        return f"{cell['problem']} | |"
    return f"{cell['seconds']:,.1f} | {cell['cpu_seconds']:,.1f} | {cell['peak_mb']:,.0f}"


def _ratio(duckdb: Cell, spark: Cell) -> str:
    return f"{spark['seconds'] / duckdb['seconds']:.1f}"


def verdict(cells: list[Cell], master: str) -> str:
    """Where Spark begins to pay, by task, and what to set then."""
    told = []
    for task in TASKS:
        both = [
            (size, spark["seconds"] / duckdb["seconds"])
            for name, size, duckdb, spark in pairs(cells)
            if name == task and "problem" not in duckdb and "problem" not in spark
        ]
        only = [
            size for name, size, duckdb, spark in pairs(cells)
            if name == task and "problem" in duckdb and "problem" not in spark
        ]  # fmt: skip
        faster = [size for size, ratio in both if ratio < 1] + only
        if faster:
            told.append(f"{task}: Spark is faster from {min(faster):,} interactions on.")
        elif both:
            size, ratio = both[-1]
            told.append(
                f"{task}: no crossover on this machine up to {size:,} interactions; DuckDB is "
                f"{ratio:.1f} times as fast there."
            )
        else:
            told.append(f"{task}: nothing to compare.")
    told.append(
        f"Measured with `{master}`. Keep `MOVIE_MLOPS_TABLE_ENGINE_URL=duckdb:` below the "
        "crossover and while the tables fit on one machine; beyond it set "
        "`MOVIE_MLOPS_TABLE_ENGINE_URL=spark:spark://HOST:7077` (a cluster that sees the lake)."
    )
    return "\n".join(f"- {line}" for line in told)


def draw(cells: list[Cell], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for key, axes in (("seconds", left), ("peak_mb", right)):
        for task, style in zip(TASKS, ("o-", "s--"), strict=True):
            for engine, colour in zip(ENGINES, ("C0", "C1"), strict=True):
                points = [
                    (cell["size"], cell[key]) for cell in cells
                    if (cell["task"], cell["engine"]) == (task, engine) and key in cell
                ]  # fmt: skip
                if points:
                    label = f"{task}, {engine}"
                    axes.loglog(*zip(*points, strict=True), style, color=colour, label=label)
    left.set(title="Seconds", xlabel="interactions")
    right.set(title="Peak memory, MB", xlabel="interactions")
    left.legend()
    figure.savefig(path, dpi=120, metadata={"Software": None})


def write_page(docs: Path, cells: list[Cell], text: str) -> None:
    docs.mkdir(parents=True, exist_ok=True)
    draw(cells, docs / "scale.png")
    head = (__doc__ or "").replace("    python", "`python").replace("benchmarks]", "benchmarks]`")
    page = (
        f"# Which table engine at which size\n\n{head.partition('Prints')[0].strip()}\n\n{text}\n"
    )
    (docs / "scale.md").write_text(page + "\n![scale](scale.png)\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--most", type=int, default=SIZES[-1], help="interactions")
    parser.add_argument("--limit", type=float, default=1800, help="seconds per cell")
    parser.add_argument("--master", default="local[2]", help="Spark's master")
    parser.add_argument("--memory", default="4g", help="of Spark's driver")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary one by default")
    parser.add_argument("--docs", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--cell", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.cell:
        task, url, folder = args.cell
        print(json.dumps(run_cell(task, url, Path(folder))))
        return
    spark = f"spark:{args.master}?spark.driver.memory={args.memory}"
    sizes = [size for size in SIZES if size <= args.most]
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        urls = {"duckdb": "duckdb:", "spark": spark}
        cells = measure_all(sizes, urls, args.limit, Path(folder))
    text = f"{table(cells)}\n\n{verdict(cells, args.master)}"
    print(text)
    if args.docs:
        write_page(args.docs, cells, text)
    if args.json:
        args.json.write_text(json.dumps(cells, indent=1))


if __name__ == "__main__":
    main()
