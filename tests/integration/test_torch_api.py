"""The PyTorch API on a real server over the small house, with and without a network of its own."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from tests.houses import FILMS, api_services, furnish, interactions, movies, training

pytest.importorskip("torch", reason="PyTorch is not installed (make test installs it)")

from movie_mlops.api.schemas.neural import NeuralRecommendations, NeuralSimilar, Predictions
from movie_mlops.api.schemas.problems import Problem
from movie_mlops.api.torch_api import create_torch_app
from movie_mlops.bootstrap.places import open_exposures
from movie_mlops.domain.versions import NEURAL_RECOMMENDER, Alias
from movie_mlops.events import open_event_log
from movie_mlops.events.schemas import USER_EVENTS, UserInteractionEvent, encode
from movie_mlops.models.algorithms import create, load
from movie_mlops.models.algorithms.base import Recommender
from movie_mlops.models.bundle import load_bundle, save_bundle
from movie_mlops.models.manifest import Entry, point
from movie_mlops.models.serving.exposures import ExposureLog
from movie_mlops.settings import Settings

SMALL = {
    "sasrec": {"dim": 32, "epochs": 10, "length": 16, "tokens": 256},
    "neural_cf": {"embedding_dim": 8, "epochs": 8, "batch_size": 512, "rate": 0.01},
}


def serve_network(serving: Path, version: str = "1", algorithm: str = "sasrec") -> Recommender:
    """Train on the small house and make the network champion of its registered model."""
    model = create(algorithm, **SMALL[algorithm]).fit(training(interactions(), movies()), seed=1)
    path = f"{NEURAL_RECOMMENDER}/{version}"
    sha256 = save_bundle(serving / path, *model.artifact())
    entry = Entry(version, path, sha256, snapshot="snapshot-1", algorithm=algorithm)
    point(serving, NEURAL_RECOMMENDER, Alias.CHAMPION, entry)
    numpy_model = load(*load_bundle(serving / path, sha256))
    assert isinstance(numpy_model, Recommender)
    return numpy_model


@contextmanager
def running(settings: Settings) -> Iterator[httpx.Client]:
    app = create_torch_app(settings, lambda: api_services(settings), "cpu")
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        with httpx.Client(base_url=url) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = Settings(home=tmp_path_factory.mktemp("home"))
    furnish(settings)
    return settings


@pytest.fixture(scope="module")
def network(house: Settings) -> Recommender:
    return serve_network(house.path(house.serving_url))


@pytest.fixture(scope="module")
def api(house: Settings, network: Recommender) -> Iterator[httpx.Client]:
    with running(house) as client:
        yield client


def eventually(done: Callable[[], bool], seconds: float = 10.0) -> None:
    give_up = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < give_up, "it did not happen"
        time.sleep(0.02)


def recommend(api: httpx.Client, user: object, **more: object) -> dict[str, Any]:
    answer = api.post("/recommend", json={"user_id": user, **more})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def history_of(user: str) -> np.ndarray:
    ids = movies()["movie_id"].sort().to_numpy()
    rows = interactions().filter(user_id=user).sort("timestamp", "line")
    return np.searchsorted(ids, rows["movie_id"].to_numpy())


def test_the_guides_prediction(api: httpx.Client, network: Recommender) -> None:
    answer = api.post("/predict", json={"user_id": 1, "movie_ids": [1, 2, 3, 4, 5]})
    assert answer.status_code == 200
    found = answer.json()
    assert (found["user_id"], found["model"], found["model_version"]) == (
        "1", "neural_recommender", "1",
    )  # fmt: skip
    assert found["request_id"] == answer.headers["x-request-id"]
    assert [one["movie_id"] for one in found["predictions"]] == [1, 2, 3, 4, 5]
    expected = network.score([history_of("1")])[0][:5]
    assert [one["score"] for one in found["predictions"]] == pytest.approx(expected, abs=1e-4)
    Predictions.model_validate(found)


def test_what_produced_a_list_is_known(api: httpx.Client, house: Settings) -> None:
    made = recommend(api, 1, k=4)
    store = open_exposures(house, "asks")
    asks = ExposureLog(store)
    try:
        eventually(lambda: asks.find(made["request_id"]) is not None)
        found = asks.find(made["request_id"])
        assert found is not None
        shown = found.shown
        assert (shown.user_id, shown.model, shown.version) == ("1", "neural_recommender", "1")
        assert (shown.algorithm, len(shown.card_sha256)) == ("sasrec", 64)
        assert list(shown.items) == [item["movie_id"] for item in made["items"]]
    finally:
        store.close()


def test_an_unknown_film_has_no_score(api: httpx.Client) -> None:
    body = {"user_id": "user_001", "movie_ids": ["movie_3", FILMS + 99, 4]}
    found = api.post("/predict", json=body).json()
    assert found["user_id"] == "1"
    scores = [one["score"] for one in found["predictions"]]
    assert scores[1] is None
    assert None not in (scores[0], scores[2])


def test_the_guides_list(api: httpx.Client, network: Recommender) -> None:
    made = recommend(api, 1, k=10, exclude_seen=True)
    NeuralRecommendations.model_validate(made)
    assert (made["user_id"], made["k"], made["path"]) == ("1", 10, "personal")
    seen = set((history_of("1") + 1).tolist())
    ids = [item["movie_id"] for item in made["items"]]
    assert len(ids) == 10
    assert seen.isdisjoint(ids)
    scores = network.score([history_of("1")])[0]
    scores[history_of("1")] = -np.inf
    assert ids == (np.argsort(-scores, kind="stable")[:10] + 1).tolist()
    assert {film for item in made["items"] for film in item["because"]} <= seen
    assert any(item["because"] for item in made["items"])


def test_seen_films_are_in_the_list_when_asked_for(api: httpx.Client) -> None:
    made = recommend(api, 1, k=FILMS, exclude_seen=False)
    assert len(made["items"]) == FILMS
    assert len(recommend(api, 1, k=FILMS)["items"]) == FILMS - 12


def test_an_unknown_user_is_new(api: httpx.Client) -> None:
    made = recommend(api, "nobody-yet", k=5)
    assert made["path"] == "newcomer"
    counts = training(interactions(), movies()).counts()
    shown = [counts[item["movie_id"] - 1] for item in made["items"]]
    assert shown == sorted(counts, reverse=True)[:5]


def test_the_guides_similar_films(api: httpx.Client, network: Recommender) -> None:
    answer = api.post("/similar", json={"movie_id": 12, "k": 5})
    found = answer.json()
    NeuralSimilar.model_validate(found)
    likeness = network.similar(11)
    best = [film for film in np.argsort(-likeness, kind="stable")[:5] if likeness[film] > 0]
    assert [item["movie_id"] for item in found["items"]] == [film + 1 for film in best]


def test_an_event_changes_the_next_list(house: Settings, api: httpx.Client) -> None:
    first = recommend(api, "clicker")["items"][0]["movie_id"]
    log = open_event_log(house.events_url, house.home, house.event_log_max_bytes)
    event = UserInteractionEvent(
        user_id="clicker", movie_id=first, interaction_type="like", timestamp=datetime.now(UTC)
    )
    log.publish(USER_EVENTS, [encode(event)])
    log.close()
    eventually(lambda: recommend(api, "clicker")["path"] == "personal")
    assert first not in [item["movie_id"] for item in recommend(api, "clicker")["items"]]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict", {"user_id": 1, "movie_ids": []}),
        ("/predict", {"user_id": 1, "movie_ids": [1] * 501}),
        ("/predict", {"user_id": 1, "movie_ids": ["no film"]}),
        ("/predict", {"user_id": "", "movie_ids": [1]}),
        ("/predict", {"user_id": 1}),
        ("/predict", {"user_id": True, "movie_ids": [1]}),
        ("/recommend", {"user_id": 1, "k": 0}),
        ("/recommend", {"user_id": 1, "k": 101}),
        ("/recommend", {"user_id": "x" * 129}),
        ("/recommend", []),
        ("/similar", {"movie_id": -1}),
        ("/similar", {"movie_id": 1, "k": "many"}),
    ],
)
def test_wrong_input_is_told(api: httpx.Client, path: str, body: object) -> None:
    answer = api.post(path, json=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(Problem.model_validate(answer.json()).detail) > 15


def test_what_is_not_there_or_not_json_is_told(api: httpx.Client) -> None:
    missing = api.post("/similar", json={"movie_id": FILMS + 99, "k": 5})
    assert missing.status_code == 404
    assert "no film" in Problem.model_validate(missing.json()).detail
    assert api.get("/predict").status_code == 405
    head, get = api.head("/health"), api.get("/health")
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert api.post("/health").headers["allow"] == "GET, HEAD"
    assert api.get("/nowhere").status_code == 404
    assert api.post("/predict", content="user_id=1").status_code == 415
    assert api.post("/predict", json={}, headers={"Host": "evil.example"}).status_code == 421


def test_health_metrics_and_documentation(api: httpx.Client) -> None:
    health = api.get("/health").json()
    assert health["status"] == "ok"
    assert health["parts"]["network"]["detail"] == "sasrec version 1 on cpu"
    assert api.get("/v2/health/live").json() == {"live": True}
    assert api.get("/v2/health/ready").json() == {"ready": True}
    recommend(api, 2)
    text = api.get("/metrics").text
    assert 'http_requests_total{endpoint="/recommend",method="POST",status="200"}' in text
    assert 'model_predictions_total{model="neural_recommender",path="personal",version="1"}' in text
    assert "http_request_duration_seconds_bucket" in text
    assert "system_cpu_usage_percent" in text
    assert api.get("/docs").status_code == 200
    paths = api.get("/openapi.json").json()["paths"]
    assert {"/predict", "/recommend", "/similar", "/health", "/metrics"} <= set(paths)


def test_without_a_network_the_champion_answers_until_there_is_one(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with running(settings) as api:
        answer = api.post("/predict", json={"user_id": 1, "movie_ids": [1]})
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert recommend(api, 1)["path"] == "static"
        furnish(settings)
        eventually(lambda: recommend(api, 1)["path"] == "personal")
        made = recommend(api, 1)
        assert (made["model"], made["model_version"]) == ("movie_recommender", "1")
        part = api.get("/health").json()["parts"]["network"]
        assert part["state"] == "degraded"
        assert "sequence_linear version 1 answers" in part["detail"]
        assert "neural_training" in part["detail"]

        serving = settings.path(settings.serving_url)
        serve_network(serving, "7", "neural_cf")
        eventually(lambda: recommend(api, 1)["model"] == "neural_recommender")
        assert recommend(api, 1)["model_version"] == "7"
        broken = Entry("8", f"{NEURAL_RECOMMENDER}/7", "0" * 64, "snapshot-1", "neural_cf")
        point(serving, NEURAL_RECOMMENDER, Alias.CHAMPION, broken)
        eventually(lambda: api.get("/health").json()["status"] == "degraded")
        assert recommend(api, 1)["model_version"] == "7"
        assert "stays in place" in api.get("/health").json()["parts"]["network"]["detail"]
