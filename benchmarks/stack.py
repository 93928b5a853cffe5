"""How long each engine of the stack takes to start, and how much memory it takes.

    python benchmarks/stack.py [--repeats 3] [--docs docs/engines] [--folder FOLDER]

A fresh home with the small sample, its features and a network; then, so many times: `stack up` of
all that is installed, side by side, on free ports and with empty folders (first start), memory
after SETTLE seconds without a caller, `down`, and `up` again on what the first left (again).
Start: from the moment its turn comes until its health check passes, preparation included. Memory:
PSS, i.e. pages that processes share are shared out. Prints a table of medians with least and most;
--docs writes it into `stack.md` there, between its two comment lines. KAFKA_HOME as for the stack.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from movie_mlops.stack import Stack, Status, free_ports

SETTLE = 15.0
SMALL = {
    "MOVIE_MLOPS_SAMPLE_FILMS": "200",
    "MOVIE_MLOPS_SAMPLE_PEOPLE": "150",
    "MOVIE_MLOPS_SAMPLE_WATCHES_PER_PERSON": "25",
}
PIPELINES = ("data_collection", "feature_engineering", "neural_training", "rollout")
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"
Figures = dict[str, dict[str, list[float]]]


def prepare(home: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "movie_mlops", "run", *PIPELINES, "--home", str(home)]
    ran = subprocess.run(
        command, env={**os.environ, **SMALL, **environment}, capture_output=True, text=True
    )
    if ran.returncode:
        sys.exit(ran.stdout + ran.stderr)


def timed_up(stack: Stack) -> tuple[float, list[Status]]:
    began = time.monotonic()
    found = stack.up(report=lambda name, text: print(f"  {name}: {text}", flush=True))
    return time.monotonic() - began, [each for each in found if each.state == "running"]


def measure(stack: Stack, repeats: int) -> tuple[Figures, dict[str, str]]:
    figures: Figures = defaultdict(lambda: defaultdict(list))
    versions: dict[str, str] = {}
    for number in range(repeats):
        print(f"repeat {number + 1} of {repeats}", flush=True)
        for each in stack.engines:
            shutil.rmtree(stack.home / "var" / "stack" / each.name, ignore_errors=True)
        seconds, running = timed_up(stack)
        figures["all"]["first"].append(seconds)
        for each in running:
            figures[each.name]["first"].append(each.start_seconds or 0.0)
            versions[each.name] = f"{each.title} {each.version}"
        time.sleep(SETTLE)
        found = [each for each in stack.status() if each.state == "running"]
        figures["all"]["memory"].append(sum(each.memory_bytes for each in found) / 2**20)
        for each in found:
            figures[each.name]["memory"].append(each.memory_bytes / 2**20)
        began = time.monotonic()
        stack.down()
        figures["all"]["down"].append(time.monotonic() - began)
        seconds, running = timed_up(stack)
        figures["all"]["again"].append(seconds)
        for each in running:
            figures[each.name]["again"].append(each.start_seconds or 0.0)
        stack.down()
    return figures, versions


def cell(values: list[float], form: str) -> str:
    least, middle, most = (f"{f(values):{form}}" for f in (min, statistics.median, max))
    return f"{middle} ({least} to {most})"


def table(figures: Figures, versions: dict[str, str], repeats: int) -> str:
    rows = [
        "| engine | first start, s | again, s | memory, MiB |",
        "| --- | --- | --- | --- |",
    ]
    for name, title in (*versions.items(), ("all", "**all, side by side**")):
        of = figures[name]
        cells = (cell(of["first"], ".1f"), cell(of["again"], ".1f"), cell(of["memory"], ",.0f"))
        rows.append(f"| {' | '.join((title, *cells))} |")
    down = cell(figures["all"]["down"], ".1f")
    said = f"Medians of {repeats} (least to most), {os.cpu_count()} cores. `down` of all: {down} s."
    return "\n".join((*rows, "", said))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--docs", type=Path)
    parser.add_argument("--folder", type=Path, help="Where the home is made.  [a temporary one]")
    given = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="movie-mlops-stack-", dir=given.folder))
    home.chmod(0o755)  # PostgreSQL's user passes
    kafka = os.environ.get("KAFKA_HOME")
    stack = Stack(home, free_ports(), kafka_home=Path(kafka) if kafka else None)
    try:
        stack.up(["redis"])
        prepare(home, stack.environment())
        stack.down()
        made = table(*measure(stack, given.repeats), given.repeats)
    finally:
        stack.down()
        shutil.rmtree(home)
    print(made)
    if given.docs:
        page = given.docs / "stack.md"
        text = page.read_text()
        before, after = text.split(BEGIN)[0], text.split(END)[1]
        page.write_text(f"{before}{BEGIN}\n{made}\n{END}{after}")


if __name__ == "__main__":
    main()
