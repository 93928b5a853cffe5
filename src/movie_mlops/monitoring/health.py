"""Runs the probes that the parts of the house hand over."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from movie_mlops.domain.errors import MovieMlopsError

State = Literal["ok", "degraded", "down"]
Probe = Callable[[], str]
"""Returns a sentence when all is well; raises an error of the house when not."""


@dataclass(frozen=True, slots=True)
class PartHealth:
    """State of one part; `detail` says what to do where the state is not ok."""

    state: State
    detail: str
    milliseconds: float


class DegradedError(MovieMlopsError):
    """A probe's word for: this part still answers, but not as it should."""


def run_probes(probes: Mapping[str, Probe]) -> dict[str, PartHealth]:
    """Ask every part; a probe that raises anything makes its part down, never the caller."""
    return {name: _run(probe) for name, probe in probes.items()}


def overall(parts: Mapping[str, PartHealth]) -> State:
    """`ok` when all are ok; `degraded` as soon as one is not."""
    return "ok" if all(part.state == "ok" for part in parts.values()) else "degraded"


def _run(probe: Probe) -> PartHealth:
    start = time.perf_counter()
    state: State = "ok"
    try:
        detail = probe()
    except DegradedError as error:
        state, detail = "degraded", str(error)
    except MovieMlopsError as error:
        state, detail = "down", str(error)
    except Exception as error:  # noqa: BLE001 (health must answer whatever a part does)
        state, detail = "down", f"{type(error).__name__}: {error}"
    return PartHealth(state, detail, round(1000 * (time.perf_counter() - start), 3))
