"""Keys, scopes and subjects; named levels of degradation; what is refused before any work."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from pydantic import SecretStr
from tests.houses import api_services, furnish, running, serve

from movie_mlops.api.main import create_app
from movie_mlops.api.server import Server, config_of
from movie_mlops.cli.keys import keys
from movie_mlops.domain.errors import ConfigurationError
from movie_mlops.models.manifest import Entry, point
from movie_mlops.settings import ApiKey, Settings, child_environment, load_settings

ADMIN = "the-admin-key"
EVENTS, LISTS = "/api/v1/events/user-interaction", "/api/v1/recommendations"
RUNS = "/api/v1/pipelines/training/runs"


def key(name: str, *scopes: str, subject: str | None = None) -> ApiKey:
    """A key whose text is its name."""
    digest = sha256(name.encode()).hexdigest()
    return ApiKey(name=name, sha256=digest, scopes=scopes, subject=subject)  # type: ignore[arg-type]


KEYS = (
    key("reader", "read"),
    key("writer", "read", "write"),
    key("boss", "admin"),
    key("viewer-7", "read", "write", subject="user_007"),
)


def settings_of(home: Path, **more: Any) -> Settings:
    found = Settings(home=home, admin_api_key=SecretStr(ADMIN), api_keys=KEYS, **more)
    furnish(found)
    return found


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with (
        running(settings_of(tmp_path_factory.mktemp("home"))) as url,
        httpx.Client(base_url=url) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """As it is when bound elsewhere than to loopback."""
    config = settings_of(
        tmp_path_factory.mktemp("home"), host="192.0.2.1", allowed_hosts=("127.0.0.1",)
    )
    with running(config) as url, httpx.Client(base_url=url) as client:
        yield client


def like(api: httpx.Client, user: str, name: str | None = None) -> int:
    body = {"user_id": user, "movie_id": 3, "interaction_type": "like"}
    headers = {} if name is None else {"X-API-Key": name}
    return api.post(EVENTS, json=body, headers=headers).status_code


def test_401_is_for_who_is_not_known_and_403_for_who_may_not(api: httpx.Client) -> None:
    cases = {
        None: (200, 202, 401), "reader": (200, 403, 403), "writer": (200, 202, 403),
        "boss": (200, 202, 503), ADMIN: (200, 202, 503), "nobody": (401, 401, 401),
        "": (401, 401, 401), "x" * 600: (401, 401, 401),
    }  # fmt: skip
    for name, (read, write, change) in cases.items():
        headers = {} if name is None else {"X-API-Key": name}
        assert api.get(LISTS, headers=headers).status_code == read, name
        assert like(api, "1", name) == write, name
        answer = api.post(RUNS, headers=headers)
        assert answer.status_code == change, name  # 503: there is no worker in this test
        if change == 401:
            assert answer.headers["www-authenticate"] == "Bearer"


def test_a_bearer_token_is_a_key_too(api: httpx.Client) -> None:
    for value, status in (
        ("Bearer boss", 503), ("bearer boss", 503), ("Bearer reader", 403), ("Basic boss", 401),
        ("Bearer", 401), ("Bearer x y", 401),
    ):  # fmt: skip
        assert api.post(RUNS, headers={"Authorization": value}).status_code == status, value
    both = {"Authorization": "Bearer boss", "X-API-Key": "reader"}
    assert api.post(RUNS, headers=both).status_code == 401


def test_elsewhere_than_on_loopback_nothing_is_read_without_a_key(closed: httpx.Client) -> None:
    for path in (LISTS, "/?k=3", "/batch-predict", "/api/v1/movies", "/v2/models", "/model/info"):
        assert closed.get(path).status_code == 401, path
    assert closed.get("/?k=3", headers={"X-API-Key": "reader"}).status_code == 200
    assert like(closed, "1") == 401
    assert like(closed, "1", "reader") == 403
    assert like(closed, "1", "writer") == 202
    for path in ("/health", "/v2/health/ready", "/v2/health/live", "/metrics", "/docs", "/"):
        assert closed.get(path).status_code == 200, path


def test_60_a_key_bound_to_a_viewer_sees_and_writes_nobody_else(api: httpx.Client) -> None:
    """Fault 60: user A never reads or writes B, whatever the address."""
    headers = {"X-API-Key": "viewer-7"}
    assert api.get(f"{LISTS}?user_id=user_7", headers=headers).status_code == 200
    assert api.get(LISTS, headers=headers).status_code == 200
    shown = api.get(f"{LISTS}?user_id=1").json()["request_id"]
    own = api.get(f"{LISTS}?user_id=7", headers=headers).json()["request_id"]
    time.sleep(0.3)  # traces are written a moment later
    event = {"user_id": "1", "movie_id": 3, "interaction_type": "like"}
    tensor = {"name": "user_id", "shape": [1], "datatype": "BYTES", "data": ["user_1"]}
    many = {"entity_type": "user", "entity_ids": [7, 1], "features": ["age"]}
    calls: list[tuple[str, str, Any]] = [
        ("GET", f"{LISTS}?user_id=1", None),
        ("GET", "/?k=3&user_id=1", None),
        ("GET", "/batch-predict?user_id=1", None),
        ("GET", f"{LISTS}/1/explanation?movie_id=3", None),
        ("GET", "/api/v1/home?user_id=1", None),
        ("GET", f"/api/v1/predictions/{shown}", None),
        ("GET", "/api/v1/features/user/1", None),
        ("POST", "/batch-predict", {"user_id": "1"}),
        ("POST", "/batch-predict", [{"user_id": "7"}, {"user_id": "1"}]),
        ("POST", EVENTS, event),
        ("POST", "/api/v1/feedback", event),
        ("POST", "/api/v1/features/batch", many),
        ("POST", "/v2/models/movie_recommender/infer", {"inputs": [tensor]}),
    ]
    for method, path, body in calls:
        answer = api.request(method, path, json=body, headers=headers)
        assert answer.status_code == 403, (path, answer.text)
        assert "bound" in answer.json()["detail"]
    assert api.get(f"/api/v1/predictions/{own}", headers=headers).status_code == 200
    assert like(api, "user_007", "viewer-7") == 202


def test_keys_are_never_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = settings_of(tmp_path)
    with running(config) as url, httpx.Client(base_url=url) as api:
        for name in (ADMIN, "boss", "a-wrong-key"):
            answer = api.post(RUNS, headers={"X-API-Key": name})
            assert name not in answer.text.replace("bosses", "")
        metrics = api.get("/metrics").text
    written = (tmp_path / "access.log").read_text() + caplog.text + metrics + repr(config)
    assert ADMIN not in written
    assert "a-wrong-key" not in written


def test_a_key_has_a_bucket_of_its_own(tmp_path: Path) -> None:
    config = settings_of(tmp_path, writes_burst=2, writes_per_minute=1)
    with running(config) as url, httpx.Client(base_url=url) as api:
        assert [like(api, "1") for _ in range(3)] == [202, 202, 429]
        assert [like(api, "1", "writer") for _ in range(3)] == [202, 202, 429]
        codes = [api.post(RUNS, headers={"X-API-Key": "boss"}).status_code for _ in range(3)]
        assert codes == [503, 503, 429]


def test_keys_are_made_listed_and_revoked(tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        ran = CliRunner().invoke(keys, [*arguments, "--home", str(tmp_path)])
        assert ran.exit_code == 0, ran.output
        return ran.stdout.strip()

    made = run("create", "phone", "--scope", "read", "--scope", "write", "--subject", "user_007")
    run("create", "other")
    text = (tmp_path / ".env").read_text()
    assert made not in text
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    found = load_settings(tmp_path)
    assert found.api_keys[0] == key(made, "read", "write", subject="7").model_copy(
        update={"name": "phone"}
    )
    assert run("list").splitlines() == ["phone: read, write only viewer 7", "other: read"]
    twice = CliRunner().invoke(keys, ["create", "phone", "--home", str(tmp_path)])
    assert isinstance(twice.exception, ConfigurationError)
    run("revoke", "phone")
    assert [each.name for each in load_settings(tmp_path).api_keys] == ["other"]
    handed_on = child_environment(load_settings(tmp_path))["MOVIE_MLOPS_API_KEYS"]
    assert load_settings(tmp_path, api_keys=handed_on) == load_settings(tmp_path)
    for wrong in ("{", '[{"name":"x","sha256":"short"}]', '[{"name":"x"}]'):
        with pytest.raises(ConfigurationError, match="MOVIE_MLOPS_API_KEYS"):
            load_settings(tmp_path, api_keys=wrong)


def test_levels_of_degradation_are_named(tmp_path: Path) -> None:
    config = Settings(home=tmp_path, event_log_max_bytes=1_000_000)
    with running(config) as url, httpx.Client(base_url=url) as api:
        health = api.get("/health").json()
        assert health["level"] == "static"
        assert set(health["limits"]) == {"no_worker", "no_ratings", "static"}
        assert 'degradation_level{level="static"} 1.0' in api.get("/metrics").text
        furnish(config)
        while api.get(LISTS).json()["path"] == "static":
            time.sleep(0.05)
        assert api.get("/health").json()["level"] == "no_ratings"
        assert 'degradation_level{level="static"} 0.0' in api.get("/metrics").text


def test_38_a_bundle_of_another_release_is_refused_and_the_last_good_one_serves(
    tmp_path: Path,
) -> None:
    """Faults 37, 38: a card that cannot be read leaves the version before it in place."""
    config = Settings(home=tmp_path)
    furnish(config)
    serving = config.path(config.serving_url)
    services = api_services(config)
    try:
        services.loader.reload()
        from tests.houses import interactions, movies, training

        from movie_mlops.models.algorithms import create
        from movie_mlops.models.bundle import save_bundle

        arrays, card = create("sequence_linear").fit(training(interactions(), movies())).artifact()
        odd = {name: {"from": "another release"} for name in card if name != "algorithm"}
        sha256 = save_bundle(serving / "odd", arrays, card | odd)
        entry = Entry("9", "odd", sha256, snapshot="s", algorithm="sequence_linear")
        point(serving, "movie_recommender", "champion", entry)  # type: ignore[arg-type]
        services.loader.reload()
        loaded = services.loader.get("movie_recommender")
        assert loaded is not None
        assert loaded.entry.version == "1"
        assert "last good" in services.loader.problems["movie_recommender champion"]
    finally:
        services.log.close()
    # and a process that starts with it still starts
    with running(config) as url:
        made = httpx.get(f"{url}{LISTS}?k=2").json()
        assert made["path"] == "static"
        serve(serving, "10")


@contextmanager
def spoken_to(config: Settings) -> Iterator[tuple[str, int]]:
    """A server as `movie-mlops api` runs it."""
    app = create_app(config, lambda: api_services(config))
    made = config_of(app, config)
    made.port, made.timeout_keep_alive = 0, 1
    server = Server(made, app.state.traffic)
    from threading import Thread

    thread = Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET /\x01 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nBad Header: 1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n", 400),
        (b"POST /predict/movie HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"GET /" + b"a" * 60_000, 414),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: b\r\n" * 8_500 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: b\r\n" * 9_000, 431),
        (b"GET / HTTP/1.1\r\nHost: loc", 408),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
         b"Connection: upgrade\r\n\r\n", 200),
    ],
)  # fmt: skip
def test_59_what_is_no_http_is_told_so(wire: tuple[str, int], sent: bytes, status: int) -> None:
    """Fault 59, and malformed HTTP: an answer in problem+json, never a hung connection."""
    with socket.create_connection(wire, timeout=10) as client:
        client.sendall(sent)
        answer = b""
        while b"}" not in answer and (part := client.recv(65_536)):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d" % status), answer[:500]
    if status >= 400:
        assert b"application/problem+json" in head
        assert b'"status":%d' % status in body


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    config = Settings(home=tmp_path_factory.mktemp("home"), port=0)
    with spoken_to(config) as address:
        yield address


def test_a_silent_connection_is_closed(wire: tuple[str, int]) -> None:
    with socket.create_connection(wire, timeout=10) as client:
        assert client.recv(10) == b""


def test_what_a_client_does_not_take_is_406(api: httpx.Client) -> None:
    for accept, status in (
        ("application/json", 200), ("*/*", 200), ("application/*;q=0.5", 200), ("text/html", 406),
        ("text/html,application/json;q=0.9", 200), ("application/json;q=0", 406), ("", 200),
    ):  # fmt: skip
        for path in (LISTS, "/api/v1/movies", "/health"):
            assert api.get(path, headers={"Accept": accept}).status_code == status, (path, accept)
    assert api.get("/metrics", headers={"Accept": "text/plain"}).status_code == 200


def test_what_has_not_changed_is_304(api: httpx.Client) -> None:
    for path in (
        "/api/v1/movies", "/api/v1/movies/3", "/api/v1/movies/search?q=film", "/posters/3.svg",
        "/model/info?task=recommendation",
    ):  # fmt: skip
        first = api.get(path)
        tag = first.headers["etag"]
        assert api.get(path, headers={"If-None-Match": f'"x", W/{tag}'}).status_code == 304
        assert api.get(path, headers={"If-None-Match": "*"}).content == b""
        changed = api.get(path, headers={"If-None-Match": '"other"', "Accept-Language": "ko"})
        assert changed.status_code == 200


def test_cursors_are_opaque_and_checked(api: httpx.Client) -> None:
    cursor = api.get("/api/v1/movies?limit=7").json()["next_cursor"]
    assert not cursor.isdigit()
    items = api.get("/api/v1/movies", params={"limit": 1, "cursor": cursor}).json()["items"]
    assert items[0]["movie_id"] == 8
    for wrong in ("7", cursor[:-1], cursor + "A", cursor.swapcase(), "é", "=" * 12, "x" * 100):
        assert api.get("/api/v1/movies", params={"cursor": wrong}).status_code == 422, wrong


def test_the_documentation_needs_no_network_and_no_inline_script(api: httpx.Client) -> None:
    page = api.get("/docs")
    assert "http" not in page.text
    assert "<script>" not in page.text
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for name in ("swagger-ui-bundle.js", "swagger-ui.css", "start.js"):
        assert api.get(f"/docs/{name}").status_code == 200
    front = api.get("/", headers={"Accept": "text/html"}).headers
    policy = front["content-security-policy"]
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert front["referrer-policy"] == "same-origin"


def test_other_origins_are_closed_out_unless_named(tmp_path: Path) -> None:
    origin = {"Origin": "https://page.example"}
    with running(Settings(home=tmp_path)) as url:
        answer = httpx.get(f"{url}/health", headers=origin)
        assert "access-control-allow-origin" not in answer.headers
    named = Settings(home=tmp_path, cors_origins=("https://page.example",))
    with running(named) as url:
        answer = httpx.get(f"{url}/health", headers=origin)
        assert answer.headers["access-control-allow-origin"] == "https://page.example"
