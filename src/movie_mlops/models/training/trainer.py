"""The fit, with what it cost measured."""

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

Model = TypeVar("Model")
_PROC = Path("/proc/self")


@dataclass(frozen=True, slots=True)
class Fitted(Generic[Model]):
    """A fitted model; CPU seconds of all threads, and the process's peak memory meanwhile."""

    model: Model
    cpu_seconds: float
    peak_memory_mb: float


def fit_measured(fit: Callable[[], Model]) -> Fitted[Model]:
    """Call `fit` and measure it.

    The peak is the resident memory of the whole process (interpreter, libraries and data
    included) during the fit, so it overstates the fit itself. Linux resets its peak before; on
    other systems the peak is that of the process since its start.
    """
    _reset_peak()
    started = time.process_time()
    model = fit()
    return Fitted(model, time.process_time() - started, _peak_mb())


def _reset_peak() -> None:
    try:
        (_PROC / "clear_refs").write_text("5")
    except OSError:
        return  # not Linux, or not allowed: `_peak_mb` then tells the peak since the start


def _peak_mb() -> float:
    try:
        lines = (_PROC / "status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 2**20 if sys.platform == "darwin" else peak / 1024
