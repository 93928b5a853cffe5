"""CloudEvents there and back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from movie_mlops.domain.errors import UnknownEventError
from movie_mlops.events.cloud_events import from_cloud_event, to_cloud_event

NOON = 1_795_262_400_000_001  # microseconds


def test_it_is_what_the_specification_says() -> None:
    text = to_cloud_event("id-1", "영희", "user_interaction.v1", b'{"movie_id": 7}', NOON)
    assert json.loads(text) == {
        "id": "id-1",
        "source": "/movie-mlops",
        "type": "user_interaction.v1",
        "specversion": "1.0",
        "subject": "영희",
        "time": "2026-11-21T12:00:00.000001Z",
        "datacontenttype": "application/json",
        "dataschema": "urn:movie-mlops:user_interaction.v1",
        "data": {"movie_id": 7},
    }
    assert b'"data":{"movie_id": 7}' in text  # the body as it was, spaces and all


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
)


@given(
    event_id=_TEXT,
    key=_TEXT,
    body=st.binary(max_size=50) | _JSON.map(lambda value: json.dumps(value, indent=1).encode()),
    at=st.integers(0, 2_000_000_000_000_000),
)
def test_any_event_comes_back_byte_for_byte(event_id: str, key: str, body: bytes, at: int) -> None:
    event = from_cloud_event(to_cloud_event(event_id, key, "t.v1", body, at))
    assert (event.id, event.subject, event.type) == (event_id, key, "t.v1")
    assert (event.body, event.published_at) == (body, at)


@pytest.mark.parametrize("body", [b"x" * 100, b"", b"\xff", b'"\xff"', b" 1", b"[" * 10_000])
def test_fault_18_what_is_no_json_travels_as_bytes(body: bytes) -> None:
    text = to_cloud_event("a", "1", "t.v1", body, NOON)
    assert "data" not in json.loads(text)
    assert from_cloud_event(text).body == body


def test_events_of_others_are_read() -> None:
    text = (
        b'{"specversion":"1.0","id":"x","source":"//elsewhere","type":"t.v1",'
        b'"time":"2026-11-21T21:00:00.000001+09:00","traceparent":"00-1","data":[1, 2]}'
    )
    event = from_cloud_event(text)
    assert (event.published_at, event.body, event.subject) == (NOON, b"[1, 2]", "")


@pytest.mark.parametrize(
    "text",
    [
        b"", b"null", b"\xff", b"{}", b'{"id":1}', b"[" * 100_000,
        b'{"specversion":"0.3","id":"x","source":"s","type":"t"}',
        b'{"specversion":"1.0","id":"x","source":"s","type":"t","time":"noon"}',
    ],
)  # fmt: skip
def test_what_is_no_cloud_event_is_refused(text: bytes) -> None:
    with pytest.raises(UnknownEventError, match="CloudEvent"):
        from_cloud_event(text)
