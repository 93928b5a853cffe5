"""Bodies of the closed loop: what sets it off, and what it did."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from movie_mlops.api.schemas.ids import EventIdIn, ShortText

Finite = Annotated[float, Field(allow_inf_nan=False, ge=-1e12, le=1e12)]
Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
_MOST_ALERTS = 200


class DriftIn(BaseModel):
    """Somebody saw drift."""

    model_name: ShortText = Field(examples=["movie_recommender"])
    drift_score: Finite = Field(examples=[0.85])
    threshold: Finite = Field(0.5, examples=[0.7])
    model_version: str = Field("", max_length=64)
    metrics: dict[ShortText, Finite] = Field(default_factory=dict, max_length=200)
    event_id: EventIdIn | None = None


class OverloadIn(BaseModel):
    """A service is at its limits; per cent."""

    service_name: ShortText = Field(examples=["api"])
    cpu_usage: Percent = Field(examples=[93.5])
    memory_usage: Percent = Field(examples=[71.0])
    response_time_ms: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] = 0.0
    event_id: EventIdIn | None = None


class AlertIn(BaseModel):
    """One alert of Alertmanager's webhook."""

    status: Literal["firing", "resolved"]
    labels: dict[str, Annotated[str, Field(max_length=1_000)]] = Field(max_length=100)
    annotations: dict[str, Annotated[str, Field(max_length=4_000)]] = Field(
        default_factory=dict, max_length=100
    )
    startsAt: datetime = Field(default_factory=lambda: datetime.now(UTC))  # noqa: N815 (its name)
    fingerprint: str = Field("", max_length=64)


class AlertsIn(BaseModel):
    """Alertmanager's webhook, version 4; https://prometheus.io/docs/alerting/latest/configuration/."""

    version: str = Field("4", max_length=8)
    status: Literal["firing", "resolved"] = "firing"
    receiver: str = Field("", max_length=200)
    alerts: list[AlertIn] = Field(
        max_length=_MOST_ALERTS,
        examples=[
            [
                {
                    "status": "firing",
                    "labels": {"alertname": "DataDriftDetected", "model": "movie_recommender"},
                    "annotations": {"drift_score": "0.9", "threshold": "0.5"},
                    "startsAt": "2026-03-01T12:00:00Z",
                    "fingerprint": "b1f4a7",
                }
            ]
        ],
    )


class Triggered(BaseModel):
    """The event is on disk; the same one again is a duplicate and sets nothing off."""

    event_id: str
    status: Literal["accepted", "duplicate"]
    position: str


class AlertsTaken(BaseModel):
    """What became events, and the names of alerts that set nothing off."""

    events: list[Triggered]
    ignored: list[str]


class LoopStep(BaseModel):
    """One transition: who moved what from where to where, and why."""

    event_id: str
    model_name: str
    subject: str
    before: str
    after: str
    reason: str
    actor: str
    cause: str
    timestamp: datetime


class RolloutOut(BaseModel):
    """A challenger on its way."""

    model_name: str
    version: str
    against: str
    stage: str
    since: datetime
    cause: str


class LoopHistory(BaseModel):
    """The latest steps, newest first; `stopped` says for which models drift sets nothing off."""

    items: list[LoopStep]
    rollouts: list[RolloutOut]
    stopped: dict[str, str]


class Resumed(BaseModel):
    """Whether the loop had been stopped for this model."""

    model_name: str
    resumed: bool
