"""The hot routes answer what their FastAPI twins answer, whatever is asked of them."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.houses import FILMS, api_services, furnish, serve, serve_ratings

from movie_mlops.api.hot import EVENTS, FEEDBACK, LISTS, RATING
from movie_mlops.api.main import App, create_app
from movie_mlops.settings import Settings

Headers = list[tuple[bytes, bytes]]
JSON = (b"content-type", b"application/json")


class House:
    """One app on a loop of its own; requests go to it with the hot routes or without."""

    def __init__(self, home: Path, **more: Any) -> None:
        limits = {"writes_burst": 10**9, "writes_per_minute": 10**9} | more
        config = Settings(home=home, **limits)
        furnish(config)
        serve_ratings(config.path(config.serving_url))
        self.settings = config
        self.app: App = create_app(config, lambda: api_services(config))
        self.runner = asyncio.Runner()
        self._context = self.app.router.lifespan_context(self.app)
        self.runner.run(self._context.__aenter__())
        self.hot = self.app.hot

    def close(self) -> None:
        self.runner.run(self._context.__aexit__(None, None, None))
        self.runner.close()

    def ask(self, hot: bool, request: tuple[str, str, bytes, Headers, bytes]) -> tuple[Any, ...]:
        self.app.hot = self.hot if hot else None
        answer = self.runner.run(self._ask(*request))
        self.app.hot = self.hot
        return answer

    async def _ask(
        self, method: str, path: str, query: bytes, headers: Headers, body: bytes
    ) -> tuple[Any, ...]:
        sent: list[dict[str, Any]] = []
        parts = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if parts:
                return parts.pop()
            await asyncio.sleep(60)
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
            "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": query,
            "root_path": "", "headers": [(b"host", b"localhost"), *headers],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {},
        }  # fmt: skip
        await self.app(scope, receive, send)  # type: ignore[arg-type]
        text = b"".join(message.get("body", b"") for message in sent[1:])
        return sent[0]["status"], dict(sent[0]["headers"]), text


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House(tmp_path_factory.mktemp("home"))
    yield made
    made.close()


def same(house: House, *request: Any) -> tuple[int, bytes]:
    """Ask both ways; one answer but for ids and positions that are made anew."""
    answers = []
    for hot in (True, False):
        status, headers, body = house.ask(hot, request)  # type: ignore[arg-type]
        request_id = headers.pop(b"x-request-id")
        assert len(headers.pop(b"content-length")) > 0
        position = headers.pop(b"x-position", None)
        assert (position is not None) == (status == 202)
        text = body.replace(request_id, b"ID").replace(position or b"--no--", b"AT")
        answers.append((status, headers, re.sub(rb'"event_id":"[0-9a-f]{32}"', b"NEW", text)))
    assert answers[0] == answers[1]
    return answers[0][0], answers[0][2]


users = st.one_of(st.text(max_size=6), st.sampled_from(["user_1", "1", "7", "nobody"]))
odd = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 2**70), st.floats(), users, st.lists(st.just(1))
)


@settings(max_examples=80, deadline=None)
@given(
    pairs=st.lists(
        st.tuples(
            st.sampled_from([b"user_id", b"k", b"lang", b"expand", b"other"]),
            st.sampled_from(
                [b"", b"1", b"user_1", b"10", b"100", b"101", b"010", b"ko", b"en", b"de", b"movie",
                 b"%ea%b4%b4", b"a+b", b"x-y.z", b"%00", b"=="]
            ),
        ),
        max_size=4,
    ),
    headers=st.lists(
        st.sampled_from(
            [
                (b"accept-language", b"ko,en;q=0.5"),
                (b"accept-language", b"de"),
                (b"x-request-id", b"mine"),
                (b"x-request-id", b"no good!"),
                (b"x-position", b"user-events:0:0"),
                (b"x-position", b"nonsense"),
                (b"x-deadline-ms", b"5000"),
                (b"origin", b"http://elsewhere"),
                (b"host", b"evil"),
                (b"accept", b"text/html"),
                (b"accept", b"text/html,*/*;q=0.1"),
            ]
        ),
        max_size=2,
    ),
)  # fmt: skip
def test_lists(house: House, pairs: list[tuple[bytes, bytes]], headers: Headers) -> None:
    if (b"x-position", b"user-events:0:0") in headers:  # waits for a second unless it is there
        body = b'{"user_id": "2", "movie_id": 1, "interaction_type": "view"}'
        house.ask(True, ("POST", EVENTS, b"", [JSON], body))
    query = b"&".join(name + b"=" + value for name, value in pairs)
    same(house, "GET", LISTS, query, headers, b"")


def test_plain_lists_take_the_hot_way(house: House) -> None:
    before = house.hot
    assert before is not None
    for user in (b"user_1", b"nobody"):
        status, body = same(house, "GET", LISTS, b"user_id=" + user + b"&k=5", [], b"")
        assert status == 200
        assert len(json.loads(body)["items"]) == 5

    async def twin_is_not_asked() -> None:
        scope = {
            "type": "http", "method": "GET", "path": LISTS, "query_string": b"user_id=user_1&k=5",
            "headers": [(b"host", b"localhost")],
        }  # fmt: skip

        async def nothing(*_: Any) -> Any:
            return None

        assert await before(scope, nothing, nothing) is None  # type: ignore[arg-type]

    house.runner.run(twin_is_not_asked())


@settings(max_examples=80, deadline=None)
@given(
    body=st.fixed_dictionaries(
        {},
        optional={
            "user_id": st.one_of(users, odd),
            "movie_id": st.one_of(st.sampled_from([1, "movie_2", "3", FILMS, 10**6]), odd),
            "interaction_type": st.sampled_from(
                ["view", "click", "watch", "rating", "like", "dislike", "undo", "adore", None]
            ),
            "rating": st.one_of(st.sampled_from([0.5, 4, "4.5", 6]), odd),
            "timestamp": st.sampled_from([None, "2026-01-01T00:00:00Z", "yesterday", 0, 1.7e9]),
            "session_id": st.one_of(st.none(), st.just("s"), odd),
            "event_id": st.sampled_from([None, "", "x" * 65, "a\n", 5]),
            "target_event_id": st.sampled_from([None, "t"]),
            "more": odd,
        },
    ),
    path=st.sampled_from([EVENTS, FEEDBACK]),
)
def test_events(house: House, body: dict[str, object], path: str) -> None:
    same(house, "POST", path, b"", [JSON], json.dumps(body).encode())


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([JSON], b""), ([JSON], b"{"), ([JSON], b"null"), ([JSON], b"[]"), ([JSON], b"\xff\xfe"),
        ([JSON], b'{"rating": NaN}'), ([JSON], b"[" * 50), ([JSON], b" " * 70_000),
        ([], b"{}"), ([(b"content-type", b"text/plain")], b"{}"),
        ([(b"content-type", b"application/json; charset=utf-8")], b"{}"),
        ([JSON, (b"content-length", b"999999")], b"{}"),
        ([JSON, (b"content-encoding", b"gzip")], b"{}"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", [EVENTS, RATING])
def test_bodies_that_are_none(house: House, headers: Headers, body: bytes, path: str) -> None:
    assert same(house, "POST", path, b"", headers, body)[0] in (413, 415, 422)


def test_an_id_sent_twice_and_one_that_is_taken(house: House) -> None:
    name = uuid4().hex[:20]
    body = {"user_id": "9", "movie_id": 1, "interaction_type": "like", "event_id": name}
    key = (b"idempotency-key", name.encode())

    def send(more: Headers, **changed: object) -> tuple[int, bytes]:
        text = json.dumps(body | changed).encode()
        return same(house, "POST", EVENTS, b"", [JSON, *more], text)

    house.ask(True, ("POST", EVENTS, b"", [JSON], json.dumps(body).encode()))
    assert b"duplicate" in send([])[1]
    assert b"duplicate" in send([key], event_id=None)[1]
    assert send([], movie_id=2)[0] == 409
    assert send([(b"idempotency-key", b"other")])[0] == 422


@settings(max_examples=60, deadline=None)
@given(
    body=st.fixed_dictionaries(
        {
            "startYear": st.one_of(st.sampled_from([None, 1999, "1999", 1999.0, 10**6]), odd),
            "runtimeMinutes": st.one_of(st.sampled_from([None, 90, 90.5, -1]), odd),
            "numVotes": st.one_of(st.sampled_from([None, 0, 5_000]), odd),
        },
        optional={
            "title": st.one_of(st.just("A Film"), odd),
            "genres": st.sampled_from([["Drama"], ["Drama", "No Such"], [], [1], None]),
            "start_year": st.just(2000),
            "isAdult": st.sampled_from([True, 1, "yes", "maybe"]),
        },
    )
)
def test_ratings(house: House, body: dict[str, object]) -> None:
    same(house, "POST", RATING, b"", [JSON], json.dumps(body).encode())


def test_a_kept_answer_goes_with_what_it_depends_on(house: House) -> None:
    def listed() -> tuple[str, list[int]]:
        made = json.loads(same(house, "GET", LISTS, b"user_id=31&k=10", [], b"")[1])
        return made["model_version"], [item["movie_id"] for item in made["items"]]

    version, films = listed()
    assert (version, films) == listed()
    body = {"user_id": 31, "movie_id": films[0], "interaction_type": "like"}
    house.ask(True, ("POST", EVENTS, b"", [JSON], json.dumps(body).encode()))
    assert films[0] not in listed()[1]
    serve(house.settings.path(house.settings.serving_url), "2", "popularity")
    house.app.state.services.loader.reload()
    assert listed()[0] == "2"


def test_a_writer_who_is_too_fast_is_told_so_both_ways(tmp_path: Path) -> None:
    house = House(tmp_path, writes_burst=1, writes_per_minute=1)
    body = b'{"user_id": 1, "movie_id": 1, "interaction_type": "view"}'
    try:
        codes = [
            house.ask(hot, ("POST", EVENTS, b"", [JSON], body))[0] for hot in (True, True, False)
        ]
    finally:
        house.close()
    assert codes == [202, 429, 429]
