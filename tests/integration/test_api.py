"""The API on a real server, a real log and a real fitted model."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import uvicorn
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tests.houses import FILMS, built_page, furnish, running, serve, serve_ratings

from movie_mlops.api.schemas.events import Accepted
from movie_mlops.api.schemas.movies import MovieOut, MoviePage, SimilarMovies
from movie_mlops.api.schemas.predictions import PredictionsOut
from movie_mlops.api.schemas.problems import Problem
from movie_mlops.api.schemas.recommendations import Recommendations
from movie_mlops.settings import Settings

KEY = "the-admin-key"
EVENTS = "/api/v1/events/user-interaction"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = Settings(
        home=tmp_path_factory.mktemp("home"), admin_api_key=SecretStr(KEY), writes_burst=10_000
    )
    furnish(settings)
    return settings


@pytest.fixture(scope="module")
def api(house: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    page = built_page(tmp_path_factory.mktemp("dist"))
    with running(house, page) as url, httpx.Client(base_url=url) as client:
        yield client


@pytest.fixture
def user() -> str:
    return f"viewer-{uuid4().hex[:8]}"


def recommend(api: httpx.Client, user: str, **more: object) -> dict[str, object]:
    answer = api.get("/api/v1/recommendations", params={"user_id": user, **more})
    assert answer.status_code == 200
    return dict(answer.json())


def like(api: httpx.Client, user: str, movie: int, **more: object) -> httpx.Response:
    body = {"user_id": user, "movie_id": movie, "interaction_type": "like", **more}
    return api.post(EVENTS, json=body)


def ids(made: dict[str, object]) -> list[int]:
    return [item["movie_id"] for item in made["items"]]  # type: ignore[attr-defined]


def test_a_list_has_the_shape_that_is_promised(api: httpx.Client) -> None:
    answer = api.get("/api/v1/recommendations?k=5&user_id=user_001")
    made = answer.json()
    assert list(made) == [
        "user_id", "k", "path", "model_version", "snapshot", "request_id", "items",
    ]  # fmt: skip
    assert made["user_id"] == "1"
    assert made["path"] == "personal"
    assert made["request_id"] == answer.headers["x-request-id"]
    assert len(made["items"]) == 5
    assert all(list(item) == ["movie_id", "title", "score", "reason"] for item in made["items"])
    first = made["items"][0]["reason"]
    assert first["text"].startswith("Because you watched The Film ")
    assert f"The Film {first['because'][0]}" in first["text"]
    Recommendations.model_validate(made)


@pytest.mark.parametrize("name", ["1", "user_1", "user_001", "001"])
def test_one_viewer_has_many_spellings(api: httpx.Client, name: str) -> None:
    assert recommend(api, name)["user_id"] == "1"
    assert ids(recommend(api, name)) == ids(recommend(api, "1"))


def test_a_click_changes_the_next_list(api: httpx.Client, user: str) -> None:
    before = recommend(api, user)
    assert before["path"] == "newcomer"
    answer = like(api, user, ids(before)[0])
    assert answer.status_code == 202
    accepted = Accepted.model_validate(answer.json())
    assert (accepted.status, accepted.known_movie) == ("accepted", True)
    assert answer.headers["x-position"] == accepted.position
    after = recommend(api, user)
    assert after["path"] == "personal"
    assert ids(before)[0] not in ids(after)
    undo = {"user_id": user, "interaction_type": "undo", "target_event_id": accepted.event_id}
    assert api.post(EVENTS, json=undo).status_code == 202
    assert ids(recommend(api, user)) == ids(before)


def test_languages_come_from_the_query_then_the_header(api: httpx.Client) -> None:
    korean = recommend(api, "1", lang="ko")["items"][0]  # type: ignore[index]
    assert korean["title"].startswith("영화")
    assert korean["reason"]["text"].endswith("봐서")
    header = {"Accept-Language": "fr, ko;q=0.8, en;q=0.5"}
    answer = api.get("/api/v1/movies/3", headers=header)
    assert answer.json()["title"] == "영화 3"
    assert api.get("/api/v1/movies/3").json()["title"] == "The Film 3"
    assert api.get("/api/v1/movies/3?lang=de").status_code == 422
    odd = api.get("/api/v1/movies/3", headers={"Accept-Language": "ko;q=x,,;"})
    assert odd.json()["title"] == "The Film 3"


def test_details_come_when_asked_for(api: httpx.Client) -> None:
    item = recommend(api, "1", expand="movie")["items"][0]  # type: ignore[index]
    MovieOut.model_validate(item["movie"])
    assert api.get(item["movie"]["poster_url"]).status_code == 200


def test_the_guides_lists(api: httpx.Client) -> None:
    answer = api.get("/?k=10").json()
    assert list(answer) == ["recommended_content_id"]
    assert len(answer["recommended_content_id"]) == 10
    assert api.get("/batch-predict?k=10").json() == answer
    one = api.post("/batch-predict", json={"user_id": 1}).json()
    assert one == {"user_id": "1", "recommended_content_id": ids(recommend(api, "1"))}
    many = api.post("/batch-predict", json=[{"user_id": "2", "k": 3}, {"user_id": 1}]).json()
    assert [found["user_id"] for found in many["results"]] == ["2", "1"]
    assert len(many["results"][0]["recommended_content_id"]) == 3
    assert many["results"][1] == one


def test_an_event_counts_once(api: httpx.Client, user: str) -> None:
    body = {"user_id": user, "movie_id": "movie_7", "interaction_type": "like"}
    name = uuid4().hex
    first = api.post(EVENTS, json={**body, "event_id": name})
    again = api.post(EVENTS, json=body, headers={"Idempotency-Key": name})
    assert (first.json()["status"], again.json()["status"]) == ("accepted", "duplicate")
    assert again.json()["position"] == first.json()["position"]
    other = api.post(EVENTS, json={**body, "event_id": name, "movie_id": 8})
    assert other.status_code == 409
    assert name in other.json()["detail"]
    both = api.post(EVENTS, json={**body, "event_id": name}, headers={"Idempotency-Key": "x"})
    assert both.status_code == 422


def test_feedback_as_the_guide_sends_it(api: httpx.Client) -> None:
    body = {"user_id": "test_user_001", "movie_id": "123", "rating": 4.5}
    sent = api.post("/api/v1/feedback", json={**body, "interaction_type": "like"})
    assert sent.status_code == 202
    assert sent.json()["known_movie"] is False
    assert api.post("/api/v1/feedback", json=body).status_code == 202
    assert recommend(api, "test_user_001")["user_id"] == "test_user_001"


def test_a_position_can_be_waited_for(api: httpx.Client, user: str) -> None:
    position = like(api, user, 5).json()["position"]
    params = {"user_id": user}
    for header, status in ((position, 200), ("user-events:0:999999", 200), ("nonsense", 422)):
        answer = api.get("/api/v1/recommendations", params=params, headers={"X-Position": header})
        assert answer.status_code == status


def test_films_page_by_page(api: httpx.Client) -> None:
    seen: list[int] = []
    cursor = None
    while True:
        params = {"limit": 15} | ({"cursor": cursor} if cursor else {})
        page = MoviePage.model_validate(api.get("/api/v1/movies", params=params).json())
        seen += [film.movie_id for film in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == list(range(1, FILMS + 1))
    assert api.get("/api/v1/movies?cursor=-1").status_code == 422


def test_one_film_and_those_like_it(api: httpx.Client) -> None:
    film = MovieOut.model_validate(api.get("/api/v1/movies/movie_007").json())
    assert film.movie_id == 7
    similar = SimilarMovies.model_validate(api.get("/api/v1/movies/7/similar?k=4").json())
    assert len(similar.items) == 4
    assert api.get("/api/v1/movies/999").status_code == 404
    assert api.get("/api/v1/movies/999/similar").status_code == 404
    found = api.get("/api/v1/movies/search", params={"q": "영화 1", "limit": 3}).json()
    assert [film["movie_id"] for film in found["items"]] == [1, 10, 11]
    assert api.get("/api/v1/movies/search").status_code == 422


def test_people_and_posters(api: httpx.Client) -> None:
    people = api.get("/api/v1/people").json()
    assert people["simulated"] is True
    assert people["items"][0] == {
        "user_id": "1", "name": "Ada", "name_ko": "에이다",
        "taste": "Comedies", "taste_ko": "코미디",
    }  # fmt: skip
    poster = api.get("/posters/5.svg?lang=ko")
    assert poster.headers["content-type"].startswith("image/svg+xml")
    assert "immutable" in poster.headers["cache-control"]
    tag = poster.headers["etag"]
    assert api.get("/posters/5.svg?lang=ko", headers={"If-None-Match": tag}).status_code == 304
    assert api.get("/posters/999.svg").status_code == 404
    assert api.get("/posters/x.svg").status_code == 422


def test_the_front_door(api: httpx.Client, house: Settings) -> None:
    page = api.get("/", headers={"Accept": "text/html,*/*"})
    assert "<title>page</title>" in page.text
    assert "immutable" in api.get("/assets/app.js").headers["cache-control"]
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert api.get("/assets/app.js").text == "1"
    assert api.get("/favicon.svg").status_code == 200
    assert api.get("/assets/../../secret").status_code == 404
    assert api.get("/").json()["service"] == "movie-mlops"
    assert api.get("/docs").status_code == 200


def test_health_names_every_part(api: httpx.Client) -> None:
    health = api.get("/health").json()
    assert set(health["parts"]) == {
        "event_log", "catalogue", "recommender", "rating_model", "histories", "worker",
    }  # fmt: skip
    assert health["parts"]["recommender"]["state"] == "ok"
    assert health["parts"]["worker"]["state"] == "degraded"  # there is none in this test
    assert health["status"] == "degraded"
    assert api.get("/v2/health/ready").json() == {"ready": True}
    assert api.get("/v2/health/live").json() == {"live": True}


def test_metrics_count_by_route_template(api: httpx.Client, user: str) -> None:
    recommend(api, user)
    api.get("/api/v1/movies/7")
    api.get("/no/such/address")
    text = api.get("/metrics").text
    assert (
        'http_requests_total{endpoint="/api/v1/movies/{movie_id}",method="GET",status="200"}'
        in text
    )
    assert 'http_requests_total{endpoint="/predict/movie",method="POST",status="500"} 0.0' in text
    assert 'http_requests_total{endpoint="unmatched",method="GET",status="404"}' in text
    assert "/no/such/address" not in text
    for name in (
        "http_request_duration_seconds_bucket", "model_predictions_total",
        "model_prediction_duration_seconds_bucket", "system_cpu_usage_percent",
        "system_memory_usage_bytes", "system_disk_usage_bytes", "recommendation_exposures_total",
        "recommendation_clicks_total", "dead_letters_total", "process_resident_memory_bytes",
    ):  # fmt: skip
        assert f"\n{name}" in text


def test_what_the_worker_answers_is_unavailable_without_it(api: httpx.Client) -> None:
    body = {"entity_ids": [1], "features": ["rating"], "entity_type": "movie"}
    for answer in (
        api.get("/api/v1/features/movie/1"),
        api.post("/api/v1/features/batch", json=body),
        api.get("/mlflow/models"),
        api.post("/api/v1/pipelines/training/runs", headers={"X-API-Key": KEY}, json={}),
    ):
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "2"
        Problem.model_validate(answer.json())
    assert api.get("/api/v1/features/nonsense/1").status_code == 422


def test_requests_for_the_worker_are_handed_on(tmp_path: Path) -> None:
    async def echo(request: Request) -> Response:
        body = {
            "method": request.method,
            "target": str(request.url).partition("worker")[2],
            "body": (await request.body()).decode(),
            "key": request.headers.get("x-api-key"),
            "id": request.headers.get("x-request-id"),
        }
        status = 404 if request.url.path.endswith("/404") else 200
        return JSONResponse(body, status)

    settings = Settings(home=tmp_path, admin_api_key=SecretStr(KEY))
    (tmp_path / "var").mkdir()
    every = [Route("/health", echo), Route("/{rest:path}", echo, methods=["GET", "POST"])]
    socket = str(settings.path(settings.control_url))
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=every), uds=socket, log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    with running(settings) as url, httpx.Client(base_url=url) as api:
        assert api.get("/health").json()["parts"]["worker"]["state"] == "ok"
        asked = api.get("/api/v1/features/movie/movie_1?x=1&y=%20", headers={"X-Request-ID": "a"})
        assert asked.json()["target"] == "/api/v1/features/movie/movie_1?x=1&y=%20"
        assert asked.json()["id"] == "a"
        assert api.get("/mlflow/models/404").status_code == 404
        started = api.post(
            "/api/v1/pipelines/training/runs", json={"a": 1}, headers={"X-API-Key": KEY}
        )
        assert json.loads(started.json()["body"]) == {"a": 1}
        assert started.json()["key"] == KEY
        assert api.get("/mlflow/anything/else").status_code == 404
    server.should_exit = True
    thread.join()


def test_the_admin_key_is_asked_for(api: httpx.Client) -> None:
    for headers in ({}, {"X-API-Key": ""}, {"X-API-Key": "wrong"}, {"X-API-Key": KEY + "x"}):
        answer = api.post("/api/v1/pipelines/training/runs", headers=headers)
        assert answer.status_code == 401
        assert "X-API-Key" in answer.json()["detail"]
        assert ".env" in answer.json()["detail"]


def test_models_that_are_not_there_say_what_to_run(api: httpx.Client) -> None:
    film = {"startYear": 1999, "runtimeMinutes": 100, "numVotes": 5000}
    answer = api.post("/predict/movie", json=film)
    assert answer.status_code == 503
    assert "rating_training" in answer.json()["detail"]
    assert api.get("/model/info").status_code == 503
    info = api.get("/model/info?task=recommendation").json()
    assert (info["model"], info["version"]) == ("movie_recommender", "1")
    assert info["algorithm"] == "sequence_linear"


def test_ratings_come_with_their_interval(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    serve_ratings(settings.path(settings.serving_url))
    film = {
        "title": "A Film", "startYear": 1999, "runtimeMinutes": 100, "numVotes": 5000,
        "genres": ["Drama", "No Such Genre"],
    }  # fmt: skip
    unknown = {"startYear": None, "runtimeMinutes": None, "numVotes": None}
    with running(settings) as url, httpx.Client(base_url=url) as api:
        made = api.post("/predict/movie", json=film)
        found = made.json()
        assert list(found) == ["rating", "interval", "in_range", "model_version", "request_id"]
        assert found["interval"]["low"] <= found["rating"] <= found["interval"]["high"]
        assert 1 <= found["rating"] <= 10
        assert found["request_id"] == made.headers["x-request-id"]
        many = api.post("/predict/batch", json={"movies": [film, unknown]}).json()
        assert many["predictions"][0]["rating"] == found["rating"]
        assert PredictionsOut.model_validate(many).predictions[1].model_version == "1"
        info = api.get("/model/info").json()
        assert (info["model"], info["algorithm"]) == ("movie_predictor", "boosted")
        assert api.get("/health").json()["parts"]["rating_model"]["state"] == "ok"


def test_a_swap_under_load_fails_no_request(api: httpx.Client, house: Settings) -> None:
    """Fault 44."""

    def ask(number: int) -> tuple[int, str]:
        answer = api.get("/api/v1/recommendations", params={"user_id": str(number % 60)})
        return answer.status_code, answer.json()["model_version"]

    serving = house.path(house.serving_url)
    with ThreadPoolExecutor(4) as pool:
        first = [pool.submit(ask, number) for number in range(100)]
        serve(serving, "2", "item_neighbours")
        rest = [pool.submit(ask, number) for number in range(400)]
        answers = [asked.result() for asked in (*first, *rest)]
    assert {status for status, _ in answers} == {200}
    serve(serving, "1")
    assert answers[0][1] == "1"


def test_every_answer_carries_an_id_that_the_caller_may_choose(api: httpx.Client) -> None:
    assert (
        api.get("/health", headers={"X-Request-ID": "mine-1"}).headers["x-request-id"] == "mine-1"
    )
    given = api.get("/health", headers={"X-Request-ID": "no spaces"}).headers["x-request-id"]
    assert len(given) == 32


def test_the_schema_is_complete(api: httpx.Client) -> None:
    schema = api.get("/openapi.json").json()
    assert "/api/v1/recommendations" in schema["paths"]
    responses = schema["paths"]["/api/v1/recommendations"]["get"]["responses"]
    assert "Recommendations" in json.dumps(responses["200"])
    assert responses["422"] == {"$ref": "#/components/responses/Problem422"}


def test_without_the_page_a_browser_learns_how_to_get_it(tmp_path: Path) -> None:
    with running(Settings(home=tmp_path)) as url, httpx.Client(base_url=url) as api:
        answer = api.get("/", headers={"Accept": "text/html"})
        assert "make up" in answer.text
        static = api.get("/api/v1/recommendations?k=3&user_id=1").json()
        assert (static["path"], static["model_version"]) == ("static", "none")
        assert len(static["items"]) == 3
        people = api.get("/api/v1/people").json()
        assert people["simulated"] is True
