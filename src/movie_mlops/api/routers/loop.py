"""The closed loop from outside: set it off by drift, overload or Alertmanager; read what it did."""

import asyncio
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from movie_mlops.api.dependencies import ADMIN, READ, WRITE, Services, Worker
from movie_mlops.api.schemas.loop import (
    AlertIn,
    AlertsIn,
    AlertsTaken,
    DriftIn,
    LoopHistory,
    OverloadIn,
    Resumed,
    Triggered,
)
from movie_mlops.domain.versions import MOVIE_RECOMMENDER
from movie_mlops.events import EventLog
from movie_mlops.events.schemas import (
    Event,
    ModelDriftEvent,
    SystemHealthEvent,
    encode,
    new_event_id,
    topic_of,
)

router = APIRouter()
_TRIGGER: dict[str, Any] = {
    "status_code": 202, "dependencies": [WRITE, ADMIN], "tags": ["events"],
}  # fmt: skip
_OF_THE_WORKER: dict[str, Any] = {"tags": ["worker"]}
_DRIFT_ALERTS = frozenset({"DataDriftDetected", "ModelQualityDropped"})
_LOAD_ALERTS = {
    "HighCpuUsage": "cpu",
    "HighMemoryUsage": "memory",
    "MemoryExhausted": "memory",
    "HighTraffic": "cpu",
}
"""Alerts that ask for scaling, and which of the two figures they stand for."""


@router.post("/api/v1/trigger/model-drift", **_TRIGGER)
async def trigger_model_drift(body: DriftIn, services: Services) -> Triggered:
    """Say that a model drifts; above the threshold the policy decides whether it is trained."""
    event = ModelDriftEvent(
        body.model_name,
        body.model_version,
        body.drift_score,
        body.threshold,
        datetime.now(UTC),
        dict(body.metrics),
    )
    said = body.model_dump_json(exclude={"event_id"}).encode()
    return await _publish(services.log, event, body.event_id, said)


@router.post("/api/v1/trigger/system-overload", **_TRIGGER)
async def trigger_system_overload(body: OverloadIn, services: Services) -> Triggered:
    """Say that a service is at its limits; above the threshold a scaling alert follows."""
    event = SystemHealthEvent(
        body.service_name,
        "overloaded",
        body.cpu_usage,
        body.memory_usage,
        body.response_time_ms,
        datetime.now(UTC),
    )
    said = body.model_dump_json(exclude={"event_id"}).encode()
    return await _publish(services.log, event, body.event_id, said)


@router.post("/api/v1/trigger/alertmanager", **_TRIGGER)
async def trigger_alertmanager(body: AlertsIn, services: Services) -> AlertsTaken:
    """Alertmanager's webhook: drift and load alerts that fire become events, once each."""
    events: list[Triggered] = []
    ignored: list[str] = []
    for alert in body.alerts:
        name = alert.labels.get("alertname", "")
        event = _event_of(alert) if alert.status == "firing" else None
        if event is None:
            ignored.append(name)
        else:
            event_id = _id_of(alert)
            events.append(await _publish(services.log, event, event_id, event_id.encode()))
    return AlertsTaken(events=events, ignored=ignored)


@router.get(
    "/api/v1/loop/history", response_model=LoopHistory, dependencies=[READ], **_OF_THE_WORKER
)
async def get_loop_history(
    request: Request,
    worker: Worker,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    cause: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """What the loop did, newest first; `cause` follows one drift from alarm to champion."""
    del limit, cause  # the worker reads them again
    return await worker.forward(request)


@router.post(
    "/api/v1/loop/{model}/resume",
    response_model=Resumed,
    dependencies=[WRITE, ADMIN],
    **_OF_THE_WORKER,
)
async def resume_loop(
    model: Annotated[str, Path(min_length=1, max_length=200)], request: Request, worker: Worker
) -> Response:
    """Let drift set trainings off again after the loop stopped and paged."""
    del model
    return await worker.forward(request)


async def _publish(log: EventLog, event: Event, event_id: str | None, said: bytes) -> Triggered:
    fingerprint = hashlib.blake2b(said, digest_size=16).digest()
    new = encode(event, event_id or new_event_id(), fingerprint)
    job = log.publish_future(topic_of(event), [new])
    [done] = await asyncio.wrap_future(job)
    return Triggered(
        event_id=new.event_id,
        status="duplicate" if done.is_duplicate else "accepted",
        position=str(done.position),
    )


def _event_of(alert: AlertIn) -> Event | None:
    """The event of an alert that sets something off."""
    name, at = alert.labels.get("alertname", ""), alert.startsAt
    if name in _DRIFT_ALERTS:
        model = alert.labels.get("model", MOVIE_RECOMMENDER)[:128]
        score = _figure(alert, "drift_score", 1.0)
        threshold = min(_figure(alert, "threshold", 0.0), score - 1e-9)  # it fires: it is above
        version = alert.labels.get("model_version", "")[:64]
        return ModelDriftEvent(model or MOVIE_RECOMMENDER, version, score, threshold, at, {})
    if name in _LOAD_ALERTS:
        usage = min(max(_figure(alert, "value", 100.0), 0.0), 100.0)
        cpu, memory = (usage, 0.0) if _LOAD_ALERTS[name] == "cpu" else (0.0, usage)
        service = alert.labels.get("service") or alert.labels.get("job") or "api"
        return SystemHealthEvent(service[:128], name, cpu, memory, 0.0, at)
    return None


def _figure(alert: AlertIn, name: str, otherwise: float) -> float:
    """A number that a rule put into annotations or labels."""
    sources: tuple[Mapping[str, str], ...] = (alert.annotations, alert.labels)
    for source in sources:
        try:
            found = float(source[name])
        except (KeyError, ValueError):
            continue
        if abs(found) < float("inf"):
            return found
    return otherwise


def _id_of(alert: AlertIn) -> str:
    """Alertmanager repeats an alert that still fires: the same firing has the same id."""
    labels = "\0".join(f"{key}={value}" for key, value in sorted(alert.labels.items()))
    text = f"{alert.fingerprint}\0{labels}\0{alert.startsAt.isoformat()}"
    return "alert-" + hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
