"""Bodies of health."""

from typing import Literal

from pydantic import BaseModel


class PartOut(BaseModel):
    """State of one part; `detail` says what to do where it is not ok."""

    state: Literal["ok", "degraded", "down"]
    detail: str
    milliseconds: float


class HealthOut(BaseModel):
    """The house as this process sees it."""

    status: Literal["ok", "degraded"]
    version: str
    parts: dict[str, PartOut]


class ReadyOut(BaseModel):
    """Whether this process can answer requests."""

    ready: bool


class LiveOut(BaseModel):
    """Always true while the process answers."""

    live: bool
