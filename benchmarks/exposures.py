"""What it costs to remember every answer: noting, writing, finding. CPU time, one thread.

python benchmarks/exposures.py [--records 200000] [--state postgresql://USER@HOST:PORT/DATABASE]

With `--state` the database, best an empty one, is filled instead of a file; its password is asked.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from getpass import getpass
from pathlib import Path
from statistics import median

from movie_mlops.domain.requests import new_request_id
from movie_mlops.models.serving.exposure_engines import open_exposure_store
from movie_mlops.models.serving.exposures import ExposureLog, Shown
from movie_mlops.state import find_state

REPEATS, PER_BATCH, ANSWERS = 7, 2_000, 500


def microseconds(work: Callable[[], object], count: int) -> float:
    """Process CPU time of one of `count`."""
    start = time.process_time()
    work()
    return 1e6 * (time.process_time() - start) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--state", default="sqlite:.")
    given = parser.parse_args()
    records = given.records
    items = tuple(range(1_000, 1_010))
    shown = [
        Shown("list", str(user), "personal", "movie_recommender", "7", "v20260101-120000", "blend",
              "a" * 64, "user-events:1:22", items)
        for user in range(ANSWERS)
    ]  # fmt: skip
    ids = [new_request_id() for _ in range(PER_BATCH)]
    answers = [shown[number % ANSWERS] for number in range(PER_BATCH)]
    with tempfile.TemporaryDirectory() as folder:
        password = None if given.state.startswith("sqlite:") else getpass()
        state = find_state(given.state, Path(folder), password)
        store = open_exposure_store(state, "benchmark")
        log = ExposureLog(store)
        noting, writing = [], []

        def note_all() -> None:
            for request_id, answer in zip(ids, answers, strict=True):
                log.note(request_id, answer)

        for _ in range(records // PER_BATCH):
            ids = [new_request_id() for _ in range(PER_BATCH)]
            noting.append(microseconds(note_all, PER_BATCH))
            writing.append(microseconds(log.flush, PER_BATCH))
        size = sum(file.stat().st_size for file in Path(folder).iterdir()) / records
        print(f"{records} answers of {ANSWERS} kinds, {PER_BATCH} per batch; median [min … max]")
        for name, values in (("note", noting), ("write, in a thread", writing)):
            spread = f"[{min(values):.2f} … {max(values):.2f}]"
            print(f"{name:24} {median(values):8.2f} µs CPU per answer {spread}")
        if size:
            print(f"{'on disk':24} {size:8.0f} bytes per answer")
        for name, wanted in (("look up the last", ids[-1]), ("an id without a time", "unknown")):
            took = []
            for _ in range(REPEATS):
                start = time.perf_counter()
                log.recall(wanted, None)
                took.append(1000 * (time.perf_counter() - start))
            print(f"{name:24} {median(took):8.2f} ms [{min(took):.2f} … {max(took):.2f}]")
        store.close()


if __name__ == "__main__":
    main()
