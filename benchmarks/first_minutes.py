"""From installed to the first personal recommendation: seconds and memory of the default stack.

Starts `movie-mlops up` on a fresh home (the invented sample), waits for the first answer with
path `personal` for user 1, notes memory when all is trained, stops, starts again. The clock
starts when environment and page are built. Memory is resident; shared pages count in each process.

    python benchmarks/first_minutes.py --repeat 3 --json first_minutes.json
"""

import argparse
import json
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil

LIMITS = {
    "first_seconds": 60.0,
    "second_seconds": 10.0,
    "api_mb": 400.0,
    "stack_mb": 1024.0,
}
LONGEST_SECONDS = 600.0


def start(home: Path) -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "movie_mlops", "up", "--home", str(home), "--port", str(port)]
    log = (home.parent / "up.log").open("ab")
    house = subprocess.Popen(command, stdout=log, stderr=log)
    return house, f"http://127.0.0.1:{port}"


def read(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 (our own loopback URL)
        found: dict[str, Any] = json.loads(answer.read())
    return found


def wait_for(url: str, key: str, value: str, house: subprocess.Popen[bytes]) -> float:
    """Seconds until the JSON at the address has this value."""
    began = time.monotonic()
    while time.monotonic() - began < LONGEST_SECONDS:
        if house.poll() is not None:
            sys.exit("the house ended; see up.log")
        try:
            if read(url).get(key) == value:
                return time.monotonic() - began
        except OSError:
            pass
        time.sleep(0.05)
    sys.exit(f"{url} did not say {key}={value} in {LONGEST_SECONDS} s")


def memory(house: subprocess.Popen[bytes]) -> dict[str, float]:
    """MB of the API process and of all processes."""
    processes = [psutil.Process(house.pid), *psutil.Process(house.pid).children(recursive=True)]
    found = {process.pid: process.memory_info().rss / 2**20 for process in processes}
    api = [p.pid for p in processes if "api" in p.cmdline()]
    return {"api_mb": max(found[pid] for pid in api), "stack_mb": sum(found.values())}


def once(folder: Path) -> dict[str, float]:
    home = folder / "home"
    home.mkdir()
    figures: dict[str, float] = {}
    for name in ("first", "second"):
        house, url = start(home)
        personal = f"{url}/api/v1/recommendations?k=10&user_id=1"
        try:
            figures[f"{name}_seconds"] = wait_for(personal, "path", "personal", house)
            if name == "first":
                # everything else: rating model and features, so that the second start has them
                figures["all_trained_seconds"] = figures["first_seconds"] + wait_for(
                    f"{url}/api/v1/features/user/1", "entity_id", "1", house
                )
            else:
                wait_for(f"{url}/api/v1/features/user/1", "entity_id", "1", house)
                figures |= memory(house)
        finally:
            house.send_signal(signal.SIGTERM)
            house.wait(60)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    runs = []
    for number in range(args.repeat):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(once(Path(folder)))
        shown = "  ".join(f"{key} {value:.1f}" for key, value in runs[-1].items())
        print(f"run {number + 1}: {shown}", flush=True)
    print(f"\n{'':<22}{'min':>9}{'median':>9}{'max':>9}{'limit':>9}")
    for key in runs[0]:
        values = [run[key] for run in runs]
        limit = f"{LIMITS[key]:>9.0f}" if key in LIMITS else ""
        print(
            f"{key:<22}{min(values):>9.1f}{statistics.median(values):>9.1f}{max(values):>9.1f}{limit}"
        )
    if args.json:
        args.json.write_text(json.dumps({"runs": runs, "limits": LIMITS}, indent=1))


if __name__ == "__main__":
    main()
