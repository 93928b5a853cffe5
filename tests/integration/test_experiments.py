"""A/B tests, traces and the shadow through the real application, with two replicas."""

import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.houses import furnish, interactions, movies, running, serve, serve_ratings, training

from movie_mlops.api.schemas.experiments import ExperimentOut
from movie_mlops.api.schemas.traces import TraceOut
from movie_mlops.domain.versions import MOVIE_RECOMMENDER, Alias
from movie_mlops.models.algorithms import create
from movie_mlops.models.bundle import save_bundle
from movie_mlops.models.manifest import Entry, point
from movie_mlops.monitoring.metrics import REGISTRY
from movie_mlops.settings import ApiKey, Settings

LISTS, EVENTS = "/api/v1/recommendations", "/api/v1/events/user-interaction"
TEST = (
    '{"name": "ranker-2", "attribution_minutes": 0.05, "arms": [{"name": "control"}, '
    '{"name": "treatment", "alias": "challenger"}]}'
)
USERS = [f"viewer-{number}" for number in range(40)]


def challenge(serving: Path, version: str = "2") -> None:
    """Popularity as challenger."""
    model = create("popularity").fit(training(interactions(), movies()))
    path = f"{MOVIE_RECOMMENDER}/{version}"
    sha256 = save_bundle(serving / path, *model.artifact())
    entry = Entry(version, path, sha256, snapshot="snapshot-2", algorithm="popularity")
    point(serving, MOVIE_RECOMMENDER, Alias.CHALLENGER, entry)


def house(home: Path, **more: Any) -> Settings:
    made = Settings(home=home, writes_burst=10**6, writes_per_minute=10**6, **more)
    furnish(made)
    return made


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, ...]]:
    settings = house(tmp_path_factory.mktemp("home"), experiment=TEST)
    challenge(settings.path(settings.serving_url))
    with (
        running(settings) as one,
        running(settings) as two,
        httpx.Client(base_url=one) as first,
        httpx.Client(base_url=two) as second,
    ):
        yield first, second


def recommend(api: httpx.Client, user: str, **more: Any) -> dict[str, Any]:
    answer = api.get(LISTS, params={"user_id": user, **more.pop("params", {})}, **more)
    assert answer.status_code == 200
    return dict(answer.json())


def trace(api: httpx.Client, request_id: str, **params: str) -> dict[str, Any]:
    answer = api.get(f"/api/v1/predictions/{request_id}", params=params)
    assert answer.status_code == 200, answer.text
    TraceOut.model_validate(answer.json())
    return dict(answer.json())


def act(api: httpx.Client, user: str, kind: str = "click", **more: Any) -> None:
    body = {"user_id": user, "movie_id": 1, "interaction_type": kind, **more}
    assert api.post(EVENTS, json=body).status_code == 202


def until(report: Any) -> None:
    give_up = time.monotonic() + 30
    while not report():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def test_a_test_from_assignment_to_verdict(replicas: tuple[httpx.Client, ...]) -> None:
    def read(api: httpx.Client) -> dict[str, Any]:
        found = api.get("/api/v1/experiments/ranker-2")
        assert found.status_code == 200
        ExperimentOut.model_validate(found.json())
        return dict(found.json())

    versions, happy = {}, 0
    for number, user in enumerate(USERS):
        here, there = replicas[number % 2], replicas[1 - number % 2]
        made = recommend(here, user)
        versions[user] = made["model_version"]
        assert recommend(there, user)["model_version"] == versions[user]  # sticky everywhere
        if number % 4 == 0:  # told to the other replica, twice: counted once
            for _ in range(2):
                act(there, user, request_id=made["request_id"])
            happy += 1
        elif number % 4 == 1:  # none of these is an outcome of this user's list
            act(there, user, "view", request_id=made["request_id"])
            act(there, user)
            act(there, user, request_id="made-up")
            act(here, f"{user}-other", request_id=made["request_id"])
    assert set(versions.values()) == {"1", "2"}
    assert recommend(replicas[0], "anybody", params={"k": 3})["model_version"] in ("1", "2")
    first = read(replicas[0])
    assert (first["verdict"], first["active"]) == ("no data", True)
    until(lambda: sum(arm["users"] for arm in read(replicas[0])["arms"]) == len(USERS) + 1)

    reports = [read(api) for api in replicas]
    for report in reports:
        assert report["joined_until"] is not None
        del report["joined_until"]
    assert reports[0] == reports[1]
    control, treatment = reports[0]["arms"]
    assert control["conversions"] + treatment["conversions"] == happy
    assert [control["model_versions"], treatment["model_versions"]] == [["1"], ["2"]]
    users = [sum(v == name for v in versions.values()) for name in ("1", "2")]
    assert abs(users[0] - control["users"]) + abs(users[1] - treatment["users"]) == 1
    assert control["exposures"] + treatment["exposures"] == 2 * len(USERS) + 1
    assert reports[0]["verdict"] == "running"
    assert reports[0]["excluded_users"] == 0
    assert reports[0]["sample_ratio"]["ok"]
    listed = replicas[1].get("/api/v1/experiments").json()
    assert [plan["name"] for plan in listed["items"]] == ["ranker-2"]
    assert [arm["alias"] for arm in listed["items"][0]["arms"]] == ["champion", "challenger"]


def test_every_answer_can_be_traced(replicas: tuple[httpx.Client, ...]) -> None:
    """The hot route's and its twin's, from either replica."""
    here, there = replicas
    hot = recommend(here, "user_1", params={"k": 5})
    twin = recommend(here, "user_1", params={"k": 5}, headers={"X-Deadline-Ms": "9000"})
    named = recommend(here, "user_1", headers={"X-Request-ID": "my.own-id"})
    assert named["request_id"] == "my.own-id"
    for made in (hot, twin, named):
        found = trace(there, made["request_id"])
        assert found["request_id"] == made["request_id"]
        assert found["user_id"] == "1"
        for field in ("path", "model_version", "snapshot"):
            assert found[field] == made[field]
        assert found["items"] == [item["movie_id"] for item in made["items"]]
        assert found["arm"] == ("control" if made["model_version"] == "1" else "treatment")
        assert found["experiment"] == "ranker-2"
        assert found["algorithm"] in ("sequence_linear", "popularity")
        assert len(found["card_sha256"]) == 64
        assert found["card"] is not None
        assert found["history_position"].startswith("user-events:")
    act(here, "user_1", "like")
    after = trace(here, recommend(here, "user_1")["request_id"])
    assert after["history_position"] > trace(here, hot["request_id"])["history_position"]


def test_nobody_s_lists_and_those_of_several_can_be_traced_too(
    replicas: tuple[httpx.Client, ...],
) -> None:
    here, there = replicas
    nobody = trace(there, here.get(LISTS).json()["request_id"])
    assert (nobody["user_id"], nobody["arm"], nobody["model_version"]) == (None, None, "1")
    users = [{"user_id": f"b{number}", "k": 3} for number in range(4)]
    answer = here.post("/batch-predict", json=users)
    for user, made in zip(users, answer.json()["results"], strict=True):
        found = trace(there, answer.headers["x-request-id"], user_id=str(user["user_id"]))
        assert found["items"] == made["recommended_content_id"]


def test_ratings_can_be_traced_too(tmp_path: Path) -> None:
    settings = house(tmp_path)
    serve_ratings(settings.path(settings.serving_url))
    film = {"startYear": 1999, "runtimeMinutes": 90, "numVotes": 10, "title": "A Film"}
    with running(settings) as url, httpx.Client(base_url=url) as api:
        for more in ({}, {"X-Deadline-Ms": "9000"}):  # the hot route, its twin
            made = api.post("/predict/movie", json=film, headers=more).json()
            found = trace(api, made["request_id"])
            assert (found["kind"], found["model"]) == ("rating", "movie_predictor")
            assert found["ratings"] == [made["rating"]]
            assert found["facts"]["start_year"] == 1999
            assert found["snapshot"] == "snapshot-1"
        many = api.post("/predict/batch", json={"movies": [film] * 3}).json()
        assert len(trace(api, many["request_id"])["ratings"]) == 3


def test_a_key_that_is_bound_to_a_viewer_traces_nobody_else(tmp_path: Path) -> None:
    """Fault 60."""
    key = ApiKey(name="ada", sha256=sha256(b"secret").hexdigest(), subject="1")
    settings = house(tmp_path, api_keys=(key,))
    with running(settings) as url, httpx.Client(base_url=url) as api:
        ids = [recommend(api, user)["request_id"] for user in ("1", "2")]
        found = [
            api.get(f"/api/v1/predictions/{each}", headers={"X-API-Key": "secret"}) for each in ids
        ]
    assert [answer.status_code for answer in found] == [200, 403]


def test_what_is_not_known_is_a_404_that_says_so(replicas: tuple[httpx.Client, ...]) -> None:
    for path in ("predictions/unknown", f"predictions/{'0' * 32}", "experiments/none"):
        answer = replicas[0].get(f"/api/v1/{path}")
        assert answer.status_code == 404
        assert answer.json()["type"].endswith("-not-found")
    assert replicas[0].get(f"/api/v1/predictions/{'x' * 65}").status_code == 422
    assert replicas[0].get("/api/v1/predictions/a%20b").status_code == 422
    for bad in ("a b", "x" * 65, "", 5, "a\n"):
        body = {"user_id": 1, "movie_id": 1, "interaction_type": "click", "request_id": bad}
        assert replicas[0].post(EVENTS, json=body).status_code == 422


def test_without_a_challenger_everybody_gets_the_champion(tmp_path: Path) -> None:
    settings = house(tmp_path, experiment=TEST)
    with running(settings) as url, httpx.Client(base_url=url) as api:
        made = [recommend(api, user) for user in USERS]
        assert {one["model_version"] for one in made} == {"1"}
        assert trace(api, made[-1]["request_id"])["arm"] is None
        arms = api.get("/api/v1/experiments/ranker-2").json()["arms"]
        assert [(arm["exposures"], arm["exposed_users"]) for arm in arms] == [(0, 0), (0, 0)]
        challenge(settings.path(settings.serving_url))  # it comes while lists are kept
        until(lambda: {recommend(api, user)["model_version"] for user in USERS} == {"1", "2"})
        point(settings.path(settings.serving_url), MOVIE_RECOMMENDER, Alias.CHALLENGER, None)
        until(lambda: {recommend(api, user)["model_version"] for user in USERS} == {"1"})
        assert trace(api, recommend(api, USERS[0])["request_id"])["arm"] is None


def test_the_shadow_answers_unseen_and_harms_nobody(tmp_path: Path) -> None:
    def sample(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0.0

    def lists(outcome: str) -> float:
        return sample("shadow_lists_total", outcome=outcome)

    settings = house(tmp_path, shadow_share=1.0)
    before, compared = lists("made"), sample("shadow_list_overlap_ratio_count")
    with running(settings) as url, httpx.Client(base_url=url) as api:
        recommend(api, "1")  # no challenger: nothing to do
        serve(settings.path(settings.serving_url), "3")
        challenge(settings.path(settings.serving_url))
        until(lambda: recommend(api, "1")["model_version"] == "3")
        until(lambda: recommend(api, "1") and lists("made") > before)
        for user in ("1", "2"):
            hot = recommend(api, user)
            twin = recommend(api, user, headers={"X-Deadline-Ms": "9000"})
            assert (hot["model_version"], twin["model_version"]) == ("3", "3")
            assert trace(api, hot["request_id"])["kind"] == "list"
        assert api.get("/api/v1/experiments").json() == {"items": [], "shadow_share": 1.0}
    assert sample("shadow_list_overlap_ratio_count") > compared
