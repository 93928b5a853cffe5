"""Faults 14-18, 48-51, 55, 59, 61: no input is answered with a 5xx, nothing counts twice."""

import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlsplit

import httpx
import pytest
from tests.houses import FILMS, furnish, running

from movie_mlops.api.schemas.problems import Problem
from movie_mlops.settings import Settings

EVENTS = "/api/v1/events/user-interaction"
LIST = "/api/v1/recommendations"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    settings = Settings(
        home=tmp_path_factory.mktemp("home"), writes_burst=10_000, request_timeout_seconds=2.0
    )
    furnish(settings)
    with running(settings) as url, httpx.Client(base_url=url) as client:
        yield client


def refused(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = Problem.model_validate(answer.json())
    assert found.status == status
    assert len(found.detail) > 15
    return found.detail


def send(api: httpx.Client, **body: object) -> httpx.Response:
    return post(api, EVENTS, {"movie_id": 3, "interaction_type": "like", **body})


def post(api: httpx.Client, path: str, body: object) -> httpx.Response:
    # json.dumps escapes what is no Unicode, httpx would refuse to send it
    return api.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})


def listed(api: httpx.Client, user: str, k: int = 100) -> list[int]:
    answer = api.get(LIST, params={"user_id": user, "k": k})
    return [item["movie_id"] for item in answer.json()["items"]]


def test_14_a_duplicate_counts_once_and_another_body_is_a_conflict(api: httpx.Client) -> None:
    first = send(api, user_id="f14", event_id="f14")
    again = send(api, user_id="f14", event_id="f14")
    assert [first.json()["status"], again.json()["status"]] == ["accepted", "duplicate"]
    assert "f14" in refused(send(api, user_id="f14", event_id="f14", movie_id=4), 409)
    assert 3 not in listed(api, "f14")
    assert 4 in listed(api, "f14")


def test_15_events_out_of_order_by_hours_give_the_same_list(api: httpx.Client) -> None:
    now = datetime.now(UTC)
    films = [2, 4, 6, 8, 10, 12]
    for user, order in (("f15a", films), ("f15b", films[::-1])):
        for film in order:
            time = (now - timedelta(hours=100 - film)).isoformat()
            assert send(api, user_id=user, movie_id=film, timestamp=time).status_code == 202
    assert listed(api, "f15a") == listed(api, "f15b")


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"interaction_type": "adore"}, "interaction_type"),
        ({"interaction_type": "rating"}, "rating"),
        ({"interaction_type": "undo"}, "target_event_id"),
        ({"rating": 0}, "rating"),
        ({"rating": 5.5}, "rating"),
        ({"rating": "five"}, "rating"),
        ({"movie_id": None}, "movie_id"),
        ({"movie_id": 0}, "movie_id"),
        ({"movie_id": 2**53}, "movie_id"),
        ({"movie_id": 1.5}, "movie_id"),
        ({"movie_id": True}, "movie_id"),
        ({"movie_id": "movie_x"}, "movie_id"),
        ({"timestamp": "1970-01-01T00:00:00"}, "timestamp"),
        ({"timestamp": "0001-01-01T00:00:00+14:00"}, "timestamp"),
        ({"timestamp": "9999-12-31T23:59:59-14:00"}, "timestamp"),
        ({"timestamp": "yesterday"}, "timestamp"),
        ({"event_id": "x" * 65}, "event_id"),
        ({"event_id": ""}, "event_id"),
        ({"event_id": "a\nb"}, "event_id"),
        ({"session_id": "\ud800"}, "session_id"),
        ({"session_id": "x" * 129}, "session_id"),
    ],
)
def test_16_what_is_no_event_is_refused_by_name(
    api: httpx.Client, body: dict[str, object], word: str
) -> None:
    assert word in refused(send(api, user_id="f16", **body), 422)


def test_16_times_without_a_zone_are_utc_and_skew_of_a_day_is_taken(api: httpx.Client) -> None:
    naive = datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=23)
    assert send(api, user_id="f16b", timestamp=naive.isoformat()).status_code == 202


def test_17_unknown_films_are_kept_and_unknown_viewers_are_new(api: httpx.Client) -> None:
    answer = send(api, user_id="nobody before", movie_id=10**9)
    assert (answer.status_code, answer.json()["known_movie"]) == (202, False)
    made = api.get(LIST, params={"user_id": "nobody before"}).json()
    assert made["path"] == "popular"


def test_18_bodies_that_are_too_large_or_too_deep_are_refused(api: httpx.Client) -> None:
    as_json = {"Content-Type": "application/json"}
    assert "65536" in refused(api.post(EVENTS, content=b"x" * 2**20, headers=as_json), 413)
    chunks = (b" " * 10_000 for _ in range(10))
    refused(api.post(EVENTS, content=chunks, headers=as_json), 413)
    deep = b"[" * 10_000 + b"]" * 10_000
    refused(api.post(EVENTS, content=deep, headers=as_json), 422)
    quoted = json.dumps({"user_id": "[" * 100, "movie_id": 1, "interaction_type": "view"})
    assert api.post(EVENTS, content=quoted, headers=as_json).status_code == 202
    for broken in (b"{", b"", b"null", b"\xff\xfe", b"[1,2", b'{"user_id": 1e999}', b"1" * 5000):
        refused(api.post(EVENTS, content=broken, headers=as_json), 422)
    for odd in (b'{"rating": NaN}', b'{"rating": Infinity}', b'{"user_id":' + b"9" * 4000 + b"}"):
        refused(api.post(EVENTS, content=odd, headers=as_json), 422)


@pytest.mark.parametrize(
    ("user", "status"),
    [
        ("영희", 200), ("../../etc/passwd", 200), ("a/b", 200), ("🎬" * 100, 200),
        ("' OR 1=1", 200),
        ("x" * 128, 200), ("x" * 129, 422), ("x" * 10_000, 422), ("", 422), ("\x00", 422),
        ("a\r\nSet-Cookie: x", 422),
    ],
)  # fmt: skip
def test_48_any_text_is_a_viewer_or_a_422(api: httpx.Client, user: str, status: int) -> None:
    answer = api.get(f"{LIST}?user_id={quote(user, safe='')}")
    assert answer.status_code == status
    if status == 200:
        assert answer.json()["user_id"] == user
        assert send(api, user_id=user).status_code == 202
    else:
        refused(answer, 422)
        refused(send(api, user_id=user), 422)
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("raw", ["%00", "%ff%fe", "%ed%a0%80", "%"])
def test_48_raw_bytes_never_break_a_page(api: httpx.Client, raw: str) -> None:
    for path in (f"{LIST}?user_id={raw}", f"/api/v1/movies/{raw}", f"/posters/{raw}.svg"):
        assert api.get(path).status_code in (200, 404, 422)


@pytest.mark.parametrize("k", ["0", "-1", "101", "1000000000", "NaN", "1.5", "", "1e1", "９９９"])
def test_49_k_is_one_to_a_hundred(api: httpx.Client, k: str) -> None:
    for path in (LIST, "/batch-predict", "/", "/api/v1/movies/1/similar"):
        assert "k:" in refused(api.get(path, params={"k": k}), 422)
    refused(api.post("/batch-predict", json={"user_id": 1, "k": k}), 422)


def test_50_51_52_who_has_seen_everything_gets_an_empty_list(api: httpx.Client) -> None:
    for film in range(1, FILMS + 1):
        kind = "dislike" if film % 3 else "watch"
        assert send(api, user_id="f50", movie_id=film, interaction_type=kind).status_code == 202
        assert film not in listed(api, "f50")
    assert listed(api, "f50") == []
    assert api.post("/batch-predict", json={"user_id": "f50"}).json() == {
        "user_id": "f50", "recommended_content_id": [],
    }  # fmt: skip


def test_55_writes_are_limited_per_client_and_reads_are_not(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    settings = Settings(home=tmp_path_factory.mktemp("home"), writes_burst=3, writes_per_minute=10)
    with running(settings) as url, httpx.Client(base_url=url) as limited:
        codes = [send(limited, user_id="f55").status_code for _ in range(4)]
        assert codes == [202, 202, 202, 429]
        answer = send(limited, user_id="f55")
        assert 1 <= int(answer.headers["retry-after"]) <= 6
        refused(answer, 429)
        assert limited.get(LIST).status_code == 200


def test_59_hosts_compression_and_header_tricks(api: httpx.Client) -> None:
    detail = refused(api.get("/health", headers={"Host": "evil.example"}), 421)
    assert "MOVIE_MLOPS_ALLOWED_HOSTS" in detail
    assert api.get("/health", headers={"Host": "localhost:1"}).status_code == 200
    squeezed = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    refused(api.post(EVENTS, content=b"\x1f\x8b\x08", headers=squeezed), 415)


def test_59_a_slow_body_is_told_so(api: httpx.Client) -> None:
    address = urlsplit(str(api.base_url))
    head = (
        f"POST {EVENTS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Content-Length: 100\r\n\r\n{"
    )
    with socket.create_connection((address.hostname, address.port), timeout=10) as client:
        client.sendall(head.encode())
        assert b" 408 " in client.recv(1000)
    with socket.create_connection((address.hostname, address.port), timeout=10) as client:
        client.sendall(head.encode())  # and leaves
    assert api.get("/health").status_code == 200


def test_61_wrong_methods_and_content_types(api: httpx.Client) -> None:
    for method, path in (
        ("PUT", LIST),
        ("GET", EVENTS),
        ("TRACE", "/"),
        ("DELETE", "/predict/movie"),
    ):
        answer = api.request(method, path)
        refused(answer, 405)
        assert answer.headers["allow"]
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""):
        refused(api.post(EVENTS, content=b"{}", headers={"Content-Type": kind}), 415)
    body = b'{"user_id": 1, "movie_id": 1, "interaction_type": "view"}'
    charset = {"Content-Type": "application/json; charset=utf-8"}
    assert api.post(EVENTS, content=body, headers=charset).status_code == 202
    refused(api.get("/no/such/thing"), 404)


@pytest.mark.parametrize(
    "film",
    [
        {}, {"startYear": 1999}, {"startYear": "x", "runtimeMinutes": 1, "numVotes": 1},
        {"startYear": 10**6, "runtimeMinutes": 1, "numVotes": 1},
        {"startYear": 1999, "runtimeMinutes": -1, "numVotes": 1},
        {"startYear": 1999, "runtimeMinutes": 1, "numVotes": -1},
        {"startYear": 1999, "runtimeMinutes": 1, "numVotes": 1, "genres": ["x"] * 21},
        {"startYear": 1999, "runtimeMinutes": 1, "numVotes": 1, "title": "\ud800"},
    ],
)  # fmt: skip
def test_films_out_of_bounds_are_refused(api: httpx.Client, film: dict[str, object]) -> None:
    refused(post(api, "/predict/movie", film), 422)
    refused(post(api, "/predict/batch", {"movies": [film]}), 422)
