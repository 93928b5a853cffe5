"""What a fit costs is measured, not guessed."""

import time

import numpy as np

from movie_mlops.models.algorithms.popularity import Popularity
from movie_mlops.models.training.trainer import fit_measured


def test_cpu_seconds_and_peak_memory_of_a_fit() -> None:
    def greedy() -> Popularity:
        ballast = np.ones(40_000_000 // 8)  # 40 MB, touched
        until = time.process_time() + 0.1
        while time.process_time() < until:
            ballast.sum()
        return Popularity()

    idle = fit_measured(Popularity)
    busy = fit_measured(greedy)
    assert isinstance(busy.model, Popularity)
    assert idle.cpu_seconds < 0.05
    assert 0.1 <= busy.cpu_seconds < 0.5
    assert busy.peak_memory_mb >= idle.peak_memory_mb + 25
