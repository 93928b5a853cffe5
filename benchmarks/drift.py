"""How often the drift check alarms by accident, and how small a shift it finds.

python benchmarks/drift.py [--checks 300] [--docs docs/benchmarks]
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from scipy.stats import beta, ks_2samp

from movie_mlops.data.lake import Lake
from movie_mlops.data.processors.catalog import stage_tmdb_movies, write_records
from movie_mlops.data.processors.population import draw_population
from movie_mlops.data.processors.sample_films import invent_films
from movie_mlops.data.processors.tastes import simulate_interactions
from movie_mlops.data.tables import MOVIES
from movie_mlops.monitoring.drift import compare
from movie_mlops.pipelines.drift_sources import ACTS, WATCHED, Frames, described, family, windows

END = datetime(2026, 1, 1, tzinfo=UTC)
SPAN = timedelta(days=540)
FILMS, WATCHES, WEEKS = 400, 40, (30, 65, 100, 135)
PEOPLE = (150, 400, 1_000)
SHIFTS = (1.0, 2.0, 3.0)
RATES = (0.01, 0.05)


class Cell(NamedTuple):
    """One row of the table."""

    people: int
    shift: float
    acts: float
    alarms: dict[float, int]
    naive: int
    checks: int
    seconds: float


def catalogue() -> pl.DataFrame:
    with tempfile.TemporaryDirectory() as folder:
        lake, path = Lake(Path(folder)), Path(folder) / "films.json"
        write_records(invent_films(FILMS, 42), path)
        with lake.connect() as connection:
            stage_tmdb_movies(path, connection)
            lake.replace(MOVIES, connection)
        return lake.read("movies")


def turned(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Each person's whole history moved round by a time of its own: no week differs from others.

    What hangs together within a person stays; what the simulation changes over time does not.
    """
    rng = np.random.default_rng([seed, 7])
    users = rows.get_column("user_id").unique().sort()
    span = round(SPAN.total_seconds() * 1e6)
    moved = pl.DataFrame({"user_id": users, "moved": rng.integers(0, span, len(users))})
    age = round(END.timestamp() * 1e6) - pl.col("timestamp").dt.epoch("us")
    at = round(END.timestamp() * 1e6) - (age + pl.col("moved")) % span
    return (
        rows.join(moved, on="user_id", how="left", maintain_order="left")
        .with_columns(timestamp=at.cast(pl.Datetime("us", "UTC")))
        .drop("moved")
    )


def frames(films: pl.DataFrame, people: int, seed: int, shift: float) -> Iterator[Frames]:
    """Weeks of one population, each with all that was before it."""
    population = draw_population(films, people, seed)
    before = turned(simulate_interactions(population, END, WATCHES), seed)
    after = before
    if shift:
        after = turned(simulate_interactions(population.shifted(shift), END, WATCHES), seed)
    before, after = described(before, films), described(after, films)
    for days in WEEKS:
        at, week = END - timedelta(days=days), timedelta(days=7)
        learnt = before.filter(pl.col("timestamp") <= at)
        now = after.filter(pl.col("timestamp").is_between(at, at + week, closed="right"))
        yield windows(ACTS, learnt, now, week)


def measure(films: pl.DataFrame, people: int, shift: float, checks: int) -> Cell:
    alarms, naive, acts = dict.fromkeys(RATES, 0), 0, []
    spent = 0.0
    for seed in range(checks // len(WEEKS)):
        for pair in frames(films, people, 1_000 + seed, shift):
            start = time.process_time()
            blocks = family(pair, WATCHED)
            for rate in RATES:
                alarms[rate] += compare([blocks], rate, 50, seed).drifted
            spent += time.process_time() - start
            values = [side.get_column("era").drop_nulls() for side in pair[1:3]]
            naive += ks_2samp(*values).pvalue < RATES[-1]
            acts.append(len(pair.current))
    return Cell(
        people,
        shift,
        float(np.median(acts)),
        alarms,
        naive,
        len(acts),
        spent / len(acts) / len(RATES),
    )


def interval(found: int, checks: int) -> str:
    low = beta.ppf(0.025, found, checks - found + 1) if found else 0.0
    high = beta.ppf(0.975, found + 1, checks - found) if found < checks else 1.0
    return f"{100 * found / checks:.1f} % ({100 * low:.1f}–{100 * high:.1f})"


def table(cells: list[Cell]) -> list[str]:
    titles = ["people", "acts in the week", "taste shift", "checks"]
    titles += [f"alarms at {100 * rate:g} %" for rate in RATES]
    titles += [f"plain KS on the year at {100 * RATES[-1]:g} %", "CPU s a check"]
    lines = ["| " + " | ".join(titles) + " |", "|" + " --- |" * len(titles)]
    for cell in cells:
        row = [f"{cell.people:,}", f"{cell.acts:,.0f}", f"{cell.shift:g}", str(cell.checks)]
        row += [interval(cell.alarms[rate], cell.checks) for rate in RATES]
        row += [interval(cell.naive, cell.checks), f"{cell.seconds:.2f}"]
        lines.append("| " + " | ".join(row) + " |")
    return lines


def plot(cells: list[Cell], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    for people in PEOPLE:
        mine = [cell for cell in cells if cell.people == people]
        shares = [100 * cell.alarms[RATES[0]] / cell.checks for cell in mine]
        acts = np.median([cell.acts for cell in mine])
        label = f"{people:,} people, {acts:,.0f} acts a week"
        axes.plot([cell.shift for cell in mine], shares, marker="o", label=label)
    axes.axhline(100 * RATES[0], color="grey", linestyle=":")
    axes.set_xlabel("shift of everybody's taste for one of 19 genres (0: nothing changed)")
    axes.set_ylabel("checks that alarm, %")
    axes.set_title(f"Drift check at {100 * RATES[0]:g} % false alarms")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checks", type=int, default=300, help="without a shift, per row")
    parser.add_argument("--docs", type=Path, help="write drift.md and drift.png here")
    options = parser.parse_args()
    films, cells = catalogue(), []
    for people in PEOPLE:
        for shift in (0.0, *SHIFTS):
            checks = options.checks if shift == 0 else max(options.checks // 5, len(WEEKS))
            cells.append(measure(films, people, shift, checks))
            print(table(cells)[-1], flush=True)
    if options.docs:
        options.docs.mkdir(parents=True, exist_ok=True)
        plot(cells, options.docs / "drift.png")
        text = (
            "# Drift: false alarms and power\n\n"
            "<!-- Written by `python benchmarks/drift.py --docs docs/benchmarks`. -->\n\n"
            f"{FILMS} invented films; sample people of the simulator with {WATCHES} watched films "
            "each in the mean; four weeks of each population against the twelve weeks before. "
            "Each person's history is moved round in time, so that without a shift no week differs "
            "from another although the acts of one person hang together. A taste shift adds that "
            "much to everybody's taste for one rare genre (Horror). Shares with their 95 % "
            "intervals. The plain KS test takes every act as independent: it is what not to do.\n\n"
        )
        lines = "\n".join(table(cells))
        (options.docs / "drift.md").write_text(text + lines + "\n\n![power](drift.png)\n")


if __name__ == "__main__":
    main()
