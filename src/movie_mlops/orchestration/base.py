"""Steps, pipelines and the port of what runs them."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

Json = dict[str, Any]
Report = Callable[[str, int, int | None], None]
"""Called with what is being done, how much is done, and of how much (None: unknown)."""
Step = Callable[[Json, Report], Json]
"""Takes what the steps before it returned; returns small JSON. Twice gives the same result."""

State = Literal["running", "succeeded", "failed"]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Steps by name, in the order of the shape."""

    name: str
    steps: Mapping[str, Step]


@dataclass(slots=True)
class StepRun:
    """How one step went; times in seconds."""

    name: str
    state: State
    seconds: float = 0.0
    output: Json = field(default_factory=dict)


@dataclass(slots=True)
class PipelineRun:
    """How one run went; `error` is empty unless it failed."""

    run_id: str
    pipeline: str
    state: State
    started_at: str
    pid: int
    steps: list[StepRun] = field(default_factory=list)
    error: str = ""

    def output(self) -> Json:
        """What all steps returned, later ones over earlier ones."""
        return {key: value for step in self.steps for key, value in step.output.items()}

    def to_json(self) -> Json:
        """This record as JSON."""
        return asdict(self)


class PipelineRunner(Protocol):
    """Starts pipelines somewhere and tells how they go."""

    def submit(self, pipeline: str, parameters: Json, run_id: str | None = None) -> str:
        """Start a run and return its id at once; an id that was given before starts nothing again.

        Raises:
            UnknownPipelineError: no shape has this name.
            EngineUnavailableError: the engine does not answer.
        """
        ...

    def status(self, run_id: str) -> PipelineRun:
        """The run's record.

        Raises:
            PipelineError: no such run.
        """
        ...

    def runs(self, limit: int = 50) -> list[PipelineRun]:
        """The latest runs, newest first."""
        ...

    def schedule(self, pipeline: str, every_hours: float) -> None:
        """Submit the pipeline again and again until `close`; a run still going is not doubled."""
        ...

    def ping(self) -> None:
        """Return when the engine answers, else raise EngineUnavailableError."""
        ...

    def close(self) -> None:
        """Stop scheduling; runs that have begun go on."""
        ...


def run_id_of(pipeline: str, at: datetime, cause: str) -> str:
    """The run id of what set it off at this time: the same for the same three."""
    digest = hashlib.blake2b(cause.encode(), digest_size=4).hexdigest()
    return f"{pipeline}-{at:%Y%m%dT%H%M%S}-{digest}"
