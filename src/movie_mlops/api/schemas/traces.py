"""What produced an answer, as the API shows it."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_EXAMPLE: Any = {
    "request_id": "019aa5a2b3c41f0e9d8c7b6a59483726",
    "time": "2026-01-01T12:00:00.123Z",
    "kind": "list",
    "user_id": "1",
    "path": "personal",
    "model": "movie_recommender",
    "model_version": "7",
    "snapshot": "20260101T000000-1a2b3c4d",
    "algorithm": "sequence_linear",
    "card_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "card": {"name": "sequence_linear"},
    "history_position": "user-events:2:17",
    "items": [12, 7, 31],
    "ratings": [],
    "facts": None,
    "experiment": "ranker-2",
    "arm": "control",
}


class TraceOut(BaseModel):
    """One answer and what produced it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]}, protected_namespaces=())

    request_id: str
    time: datetime
    kind: Literal["list", "rating"]
    user_id: str | None
    path: str | None
    model: str
    model_version: str
    snapshot: str
    algorithm: str | None
    card_sha256: str | None = Field(description="Hash of the model's card, which names its files.")
    card: dict[str, Any] | None = Field(description="The card, while this version is served.")
    history_position: str | None = Field(
        description="Place of the event log up to which the viewer's history went."
    )
    items: tuple[int, ...] = Field(description="Films, the best first.")
    ratings: tuple[float, ...]
    facts: dict[str, Any] | None = Field(description="What a single film's rating was made from.")
    experiment: str | None
    arm: str | None = Field(description="The viewer's arm; null where nothing is tested.")
