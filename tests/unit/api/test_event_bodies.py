"""What the log gets of an event's body is what its own checks would have made of it."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from movie_mlops.api.schemas.events import FeedbackIn, InteractionIn, fingerprint, read_plain
from movie_mlops.events.schemas import (
    UserInteractionEvent,
    encode,
    encode_interaction,
    to_interaction,
)

NOW = datetime(2026, 3, 4, 5, 6, 7, 891234, UTC)
texts = st.one_of(st.none(), st.text(max_size=130), st.sampled_from(["s", "a b", "괴물", "\n"]))
bodies = st.fixed_dictionaries(
    {
        "user_id": st.one_of(st.integers(), st.text(max_size=130), st.just("user_001")),
        "interaction_type": st.sampled_from(["view", "like", "rating", "undo"]),
    },
    optional={
        "movie_id": st.one_of(st.integers(-1, 2**70), st.sampled_from(["movie_7", "8", None])),
        "rating": st.one_of(st.none(), st.floats(), st.sampled_from([0.5, 4, "4.5", 5.0])),
        "timestamp": st.one_of(
            st.none(),
            st.datetimes(datetime(1990, 1, 1), datetime(2026, 1, 1)).map(datetime.isoformat),  # noqa: DTZ001
            st.sampled_from(["2020-01-01T00:00:00+09:00", "2020-01-01T00:00:00.5Z", 1.7e9]),
        ),
        "session_id": texts,
        "target_event_id": texts,
        "request_id": st.sampled_from([None, "abc", "x y"]),
    },
)


@given(bodies)
def test_the_log_gets_what_the_checked_constructor_makes(body: dict[str, Any]) -> None:
    try:
        said = InteractionIn.model_validate_json(json.dumps(body))
    except ValidationError:
        return
    checked = UserInteractionEvent(
        user_id=said.user_id,
        movie_id=said.movie_id or 0,
        interaction_type=said.interaction_type,
        timestamp=said.timestamp or NOW,
        rating=said.rating,
        session_id=said.session_id,
        target_event_id=said.target_event_id,
        request_id=said.request_id,
    )
    act = to_interaction(checked, "id")
    made = encode_interaction(act, said.session_id, said.request_id, b"print")
    assert made == encode(checked, "id", b"print")


odd = st.one_of(st.none(), st.booleans(), st.integers(-5, 2**70), st.floats(), st.text(max_size=4))


@given(
    body=st.one_of(
        bodies,
        st.dictionaries(
            st.sampled_from([*InteractionIn.model_fields, "more"]),
            st.one_of(odd, st.sampled_from(["like", "rating", "click", 1, "movie_1", 4.5, 5])),
        ),
    ),
    kind=st.sampled_from([InteractionIn, FeedbackIn]),
    ascii_only=st.booleans(),
)
def test_the_fast_reader_reads_as_the_schema_or_not_at_all(
    body: dict[str, Any], kind: type[InteractionIn], ascii_only: bool
) -> None:
    text = json.dumps(body, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    plain = read_plain(text, is_feedback=kind is FeedbackIn)
    if plain is None:
        return
    said = kind.model_validate_json(text)
    found = [getattr(plain, name) for name in InteractionIn.model_fields]
    wanted = [getattr(said, name) for name in InteractionIn.model_fields]
    assert found == wanted
    assert [type(each) for each in found] == [type(each) for each in wanted]
    assert fingerprint(plain) == fingerprint(said)


@pytest.mark.parametrize(
    "text",
    [
        b'{"user_id":"user_007","movie_id":3,"interaction_type":"like"}',
        b'{"user_id":7,"movie_id":"movie_3","interaction_type":"rating","rating":4}',
        b'{"user_id":"a","user_id":"b","movie_id":2,"movie_id":1,"interaction_type":"view"}',
        '{"user_id":"괴물","movie_id":3,"interaction_type":"click","request_id":"r"}'.encode(),
    ],
)
def test_plain_bodies_take_the_fast_reader(text: bytes) -> None:
    plain, said = read_plain(text, is_feedback=False), InteractionIn.model_validate_json(text)
    assert plain is not None
    assert [getattr(plain, name) for name in InteractionIn.model_fields] == [
        getattr(said, name) for name in InteractionIn.model_fields
    ]


@pytest.mark.parametrize(
    "text",
    [
        b'{"user_id":"a","movie_id":3,"interaction_type":"like","more":"\xff"}',
        b'{"user_id":"\xff","movie_id":3,"interaction_type":"like"}',
        b'{"user_id":"\\ud800","movie_id":3,"interaction_type":"like"}',
        b'{"user_id":"a","movie_id":3.0,"interaction_type":"like"}',
        b'{"user_id":"a","movie_id":true,"interaction_type":"like"}',
        b'{"user_id":"a","movie_id":3,"interaction_type":"like","rating":NaN}',
        b'{"user_id":"a","movie_id":3,"interaction_type":"like","rating":true}',
        b'{"user_id":"a","movie_id":3,"interaction_type":"like","request_id":"r\\n"}',
        b'{"user_id":"a","movie_id":3,"interaction_type":"rating"}',
        b'{"user_id":"a","movie_id":3}',
        b'{"user_id":"a","interaction_type":"undo","target_event_id":"t"}',
        b"[]", b"", b"{", b'{"user_id":"a","movie_id":3,"interaction_type":"like"} x',
    ],
)  # fmt: skip
def test_what_is_unusual_is_left_to_the_schema(text: bytes) -> None:
    assert read_plain(text, is_feedback=False) is None
