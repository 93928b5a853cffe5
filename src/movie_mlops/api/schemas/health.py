"""Bodies of health."""

from typing import Literal

from pydantic import BaseModel, Field


class PartOut(BaseModel):
    """State of one part; `detail` says what to do where it is not ok."""

    state: Literal["ok", "degraded", "down"]
    detail: str
    milliseconds: float


class PartsOut(BaseModel):
    """The parts as this process sees them."""

    status: Literal["ok", "degraded"]
    version: str
    parts: dict[str, PartOut]


class HealthOut(PartsOut):
    """The house as this process sees it."""

    level: Literal[
        "full",
        "no_worker",
        "no_ratings",
        "no_personalisation",
        "read_only",
        "shedding",
        "static",
        "empty",
    ] = Field(description="The worst that holds now.")
    limits: dict[str, str] = Field(
        description="Every level that holds, and what it means.",
        examples=[{"no_worker": "features, registry and pipelines wait"}],
    )


class ReadyOut(BaseModel):
    """Whether this process can answer requests."""

    ready: bool


class LiveOut(BaseModel):
    """Always true while the process answers."""

    live: bool
