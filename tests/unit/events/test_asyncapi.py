"""The AsyncAPI document is whole and still fits what was released."""

import copy
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from movie_mlops.domain.errors import UnknownEventError
from movie_mlops.domain.interactions import InteractionType
from movie_mlops.events.asyncapi import asyncapi, breaking_changes
from movie_mlops.events.base import Position, Record
from movie_mlops.events.schemas import (
    EVENT_TYPES,
    TOPICS,
    ModelDriftEvent,
    UserInteractionEvent,
    decode,
    encode,
    field_names,
)

ROOT = Path(__file__).resolve().parents[3]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
Schema = dict[str, Any]


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            if key == "$ref":
                yield each
            else:
                yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def test_every_reference_of_the_document_leads_somewhere() -> None:
    document = asyncapi("1")
    del document["components"]["schemas"]["user_interaction.v1"]["$defs"]  # local to its schema
    found = [name for name in references(document) if not name.startswith("#/$defs")]
    assert found
    for name in found:
        place: Any = document
        for part in name.removeprefix("#/").split("/"):
            place = place[part]
        assert place
    assert set(document["channels"]) == set(TOPICS)


def test_the_schemas_of_the_last_release_are_still_kept() -> None:
    released = json.loads((ROOT / "docs/released/asyncapi.json").read_text())
    assert breaking_changes(released, asyncapi("1")) == []


def _interaction(document: Schema) -> Schema:
    schema: Schema = document["components"]["schemas"]["user_interaction.v1"]
    return schema


def gone(document: Schema) -> None:
    del document["components"]["schemas"]["system_health.v1"]


def field_gone(document: Schema) -> None:
    del _interaction(document)["properties"]["rating"]


def newly_required(document: Schema) -> None:
    _interaction(document)["required"].append("session_id")


def no_longer_required(document: Schema) -> None:
    _interaction(document)["required"].remove("movie_id")


def other_type(document: Schema) -> None:
    _interaction(document)["properties"]["movie_id"]["type"] = "string"


def value_gone(document: Schema) -> None:
    _interaction(document)["$defs"]["InteractionType"]["enum"].remove("undo")


def narrower(document: Schema) -> None:
    _interaction(document)["properties"]["user_id"]["maxLength"] = 64


def fewer_partitions(document: Schema) -> None:
    document["channels"]["user-events"]["bindings"]["kafka"]["partitions"] = 2


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (gone, "system_health.v1: the type is gone"),
        (field_gone, "user_interaction.v1.rating: the field is gone"),
        (newly_required, "user_interaction.v1.session_id: required now"),
        (no_longer_required, "user_interaction.v1.movie_id: required no longer"),
        (other_type, "user_interaction.v1.movie_id: type was 'integer', is 'string'"),
        (value_gone, "user_interaction.v1.interaction_type: enum was"),
        (narrower, "user_interaction.v1.user_id: maxLength was 128, is 64"),
        (fewer_partitions, "user-events: the topic or its number of partitions changed"),
    ],
)
def test_a_breaking_change_is_named(change: Callable[[Schema], None], text: str) -> None:
    released = asyncapi("1")
    now = copy.deepcopy(released)
    change(now)
    found = breaking_changes(released, now)
    assert len(found) == 1
    assert found[0].startswith(text)


def test_wider_is_no_breaking_change() -> None:
    released = asyncapi("1")
    now = copy.deepcopy(released)
    schema = _interaction(now)
    schema["properties"]["device"] = {"type": "string", "default": ""}
    schema["properties"]["user_id"]["maxLength"] = 256
    schema["$defs"]["InteractionType"]["enum"].append("share")
    now["components"]["schemas"]["new.v1"] = {"properties": {}}
    assert breaking_changes(released, now) == []


def test_field_names_hold_the_keys() -> None:
    assert all(kind.key_field in field_names(kind) for kind in EVENT_TYPES)


def stored(kind: str, body: bytes) -> Record:
    return Record(Position("user-events", 0, 7), "e", "k", kind, body, 0)


def test_a_time_without_a_zone_is_utc_and_a_text_may_be_a_time() -> None:
    event = UserInteractionEvent("1", 2, "like", "2026-03-01T12:00:00")  # type: ignore[arg-type]
    assert (event.timestamp, event.interaction_type) == (NOON, InteractionType.LIKE)
    new = encode(event, "e")
    assert decode(stored(new.type, new.body)) == event


def test_a_newer_writer_with_one_field_more_is_read() -> None:
    new = encode(ModelDriftEvent("m", "1", 0.8, 0.5, NOON, {"genre": 0.8}))
    body = json.dumps({**json.loads(new.body), "invented_later": [1]}).encode()
    assert decode(stored(new.type, body)).metrics == {"genre": 0.8}


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        ("user_interaction.v2", b"{}", "no schema of this version"),
        ("user_interaction.v1", b"{", "JSON"),
        ("user_interaction.v1", b'{"user_id":"1"}', "movie_id"),
        ("model_drift.v1", b'{"drift_score":NaN}', "model_name"),
        ("system_health.v1", b"[]", "body"),
    ],
)
def test_what_fits_no_schema_is_named(kind: str, body: bytes, text: str) -> None:
    with pytest.raises(UnknownEventError, match=text):
        decode(stored(kind, body))
