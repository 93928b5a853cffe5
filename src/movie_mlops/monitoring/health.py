"""Runs the probes that the parts of the house hand over."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from movie_mlops.domain.errors import MovieMlopsError

LEVELS = {
    "full": "everything answers",
    "no_worker": "features, registry and pipelines wait; lists and ratings are whole",
    "no_ratings": "no rating model is served; lists are whole",
    "no_personalisation": "lists do not know what viewers did last",
    "read_only": "no event is taken, the log does not answer or is full",
    "shedding": "some requests are told to come back, too much came at once",
    "static": "no recommender is served; lists are the catalogue's popularity",
    "empty": "there are no films yet",
}
"""The levels of degradation, the worst last."""

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


def worst_level(found: Iterable[str]) -> str:
    """The worst of these levels; `full` where there is none."""
    order = list(LEVELS)
    return max(found, key=order.index, default="full")


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
