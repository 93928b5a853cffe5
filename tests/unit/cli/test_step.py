"""`step` takes its turn: it waits for whoever writes to the home."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from movie_mlops.orchestration.lock import run_lock, writer_lock
from movie_mlops.settings import PREFIX


def test_a_step_waits_for_the_run_that_holds_its_home(tmp_path: Path) -> None:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
    command = [sys.executable, "-m", "movie_mlops", "step", "rollout"]
    command += ["roll_out_neural_recommender", "--home", str(tmp_path)]
    with writer_lock(run_lock(tmp_path), "the test"):
        child = subprocess.Popen(command, env=kept, stdout=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while not is_waiting(child.pid):
            assert child.poll() is None, "it does not wait"
            assert time.monotonic() < deadline
            time.sleep(0.02)
    said, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    assert json.loads(said.splitlines()[-1]) == {"note": "neural_recommender: no challenger"}
    assert "movie-mlops step rollout" in run_lock(tmp_path).read_text()


def is_waiting(pid: int) -> bool:
    """Whether the kernel lists the process among those that wait for a lock of a file."""
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and f" {pid} " in line for line in lines)
