"""What a fit costs is measured, not guessed; in its own process, as other tests leave memory."""

import subprocess
import sys

PROGRAM = """
import time
import numpy as np
from movie_mlops.models.training.trainer import fit_measured

def greedy():
    ballast = np.ones(100_000_000 // 8)  # 100 MB, touched
    until = time.process_time() + 0.1
    while time.process_time() < until:
        ballast.sum()
    return "fitted"

greedy()
idle, busy = fit_measured(lambda: "nothing"), fit_measured(greedy)
assert busy.model == "fitted"
print(idle.cpu_seconds, busy.cpu_seconds, busy.peak_memory_mb - idle.peak_memory_mb)
"""


def test_cpu_seconds_and_peak_memory_of_a_fit() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    idle_seconds, busy_seconds, more_memory = map(float, done.stdout.split())
    assert idle_seconds < 0.05
    assert 0.1 <= busy_seconds < 0.5
    assert 80 <= more_memory <= 130
