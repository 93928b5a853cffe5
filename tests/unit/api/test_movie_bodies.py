"""The quick reading of a film's body says what its schema says, or nothing."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from movie_mlops.api.schemas.predictions import MovieIn, plain_facts

NEEDED = {"startYear": 1999, "runtimeMinutes": 100, "numVotes": 5_000}
numbers = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 10_001), st.integers(), st.floats(),
    st.sampled_from([1870, 2100, 2101, 10**9, 10**9 + 1, 0.0, 1e-300, "1999"]),
)  # fmt: skip
texts = st.one_of(
    st.none(), st.text(max_size=20), st.sampled_from(["x" * 500, "😀" * 501]), numbers
)
names = st.sampled_from(
    [*NEEDED, "title", "originalTitle", "genres", "isAdult", "start_year", "is_adult", "more"]
)
values = st.one_of(numbers, texts, st.lists(st.sampled_from(["Drama", "x" * 51, 1]), max_size=21))


@given(st.lists(st.tuples(names, values), max_size=7))
def test_it_agrees_with_the_schema(pairs: list[tuple[str, object]]) -> None:
    everything = [*NEEDED.items(), *pairs]  # a name may come twice
    text = ", ".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in everything)
    body = f"{{{text}}}".encode()
    facts = plain_facts(body)
    if facts is not None:
        assert facts == MovieIn.model_validate_json(body).to_facts()
        assert type(facts.runtime_minutes) in (float, type(None))


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"{}", b'{"startYear": 1999}', b"\xff", b'{"startYear": NaN}',
        b'{"startYear": 1999, "runtimeMinutes": 1, "numVotes": 1, "title": "\\ud800"}',
        b'{"startYear": 1999, "runtimeMinutes": 1, "numVotes": 1, "title": "\xff"}',
        b'{"startYear": 1999, "runtimeMinutes": 1e999, "numVotes": 1}',
    ],
)  # fmt: skip
def test_what_is_not_plain_is_left_to_the_schema(body: bytes) -> None:
    assert plain_facts(body) is None


def test_what_most_send_is_plain() -> None:
    body = {**NEEDED, "title": "A Film", "genres": ["Drama"], "isAdult": False}
    text = json.dumps(body).encode()
    facts = plain_facts(text)
    assert facts is not None
    assert facts == MovieIn.model_validate_json(text).to_facts()
    assert facts.original_title == "A Film"
