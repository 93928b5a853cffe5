"""The Open Inference Protocol v2: what its specification says, and KServe's own server beside."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.houses import furnish, running, serve_ratings

from movie_mlops.settings import Settings

KSERVE = "kserve==0.17.0"
ALONE = {"Connection": "close"}  # a kept connection may end between two tests
RATINGS, LISTS = "movie_predictor", "movie_recommender"


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    config = Settings(home=tmp_path_factory.mktemp("home"))
    furnish(config)
    serve_ratings(config.path(config.serving_url))
    with running(config) as url, httpx.Client(base_url=url, timeout=20, headers=ALONE) as client:
        yield client


def tensor(name: str, data: list[Any], datatype: str = "FP64", **more: Any) -> dict[str, Any]:
    made = {"name": name, "shape": [len(data)], "datatype": datatype, "data": data}
    return made | more


def films(*changed: dict[str, Any], **more: Any) -> dict[str, Any]:
    inputs = {
        each["name"]: each
        for each in (
            tensor("startYear", [1999, 2001]),
            tensor("runtimeMinutes", [100, 120.5]),
            tensor("numVotes", [5000, 40]),
            *changed,
        )
    }
    return {"id": "42", "inputs": list(inputs.values()), **more}


def test_ratings_are_those_of_the_other_route(ours: httpx.Client) -> None:
    genres = [tensor("title", ["A", "B"], "BYTES"), tensor("genres", ["Drama", "War"], "BYTES")]
    made = ours.post(f"/v2/models/{RATINGS}/infer", json=films(*genres)).json()
    assert list(made) == ["model_name", "model_version", "id", "parameters", "outputs"]
    assert (made["model_name"], made["model_version"], made["id"]) == (RATINGS, "1", "42")
    assert made["parameters"] == {"snapshot": "snapshot-1"}
    outputs = {output["name"]: output for output in made["outputs"]}
    assert list(outputs) == ["rating", "low", "high", "in_range"]
    assert all(output["shape"] == [2] for output in outputs.values())
    film = {
        "title": "A", "startYear": 1999, "runtimeMinutes": 100, "numVotes": 5000,
        "genres": ["Drama"],
    }  # fmt: skip
    one = ours.post("/predict/movie", json=film).json()
    assert outputs["rating"]["data"][0] == one["rating"]
    assert outputs["low"]["data"][0] == one["interval"]["low"]
    assert outputs["in_range"]["datatype"] == "BOOL"
    only = ours.post(f"/v2/models/{RATINGS}/infer", json=films(outputs=[{"name": "high"}])).json()
    assert [output["name"] for output in only["outputs"]] == ["high"]
    again = ours.post(f"/v2/models/{RATINGS}/versions/1/infer", json=films())
    assert again.json()["model_version"] == "1"


def test_lists_are_those_of_the_other_route(ours: httpx.Client) -> None:
    body = {"inputs": [tensor("user_id", ["1", "user_002"], "BYTES"), tensor("k", [3], "INT32")]}
    answer = ours.post(f"/v2/models/{LISTS}/infer", json=body)
    made = answer.json()
    assert made["id"] == answer.headers["x-request-id"]
    films, scores = made["outputs"]
    assert (films["name"], films["datatype"], films["shape"]) == ("movie_id", "INT64", [2, 3])
    assert (scores["name"], scores["datatype"], scores["shape"]) == ("score", "FP64", [2, 3])
    listed = ours.get("/api/v1/recommendations?user_id=2&k=3").json()["items"]
    assert films["data"][3:] == [item["movie_id"] for item in listed]
    assert scores["data"][3:] == [item["score"] for item in listed]


def trace_of(api: httpx.Client, request_id: str, **query: str) -> dict[str, Any]:
    """What is known of an answer, once it is written."""
    deadline = time.monotonic() + 10
    while True:
        answer = api.get(f"/api/v1/predictions/{request_id}", params=query)
        if answer.status_code == 200:
            return dict(answer.json())
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.02)


def test_what_produced_an_inference_is_known(ours: httpx.Client) -> None:
    body = {"inputs": [tensor("user_id", ["1", "user_002"], "BYTES"), tensor("k", [3], "INT32")]}
    made = ours.post(f"/v2/models/{LISTS}/infer", json=body).json()
    trace = trace_of(ours, made["id"], user_id="2")
    assert (trace["kind"], trace["model"], trace["model_version"]) == ("list", LISTS, "1")
    assert trace["items"] == made["outputs"][0]["data"][3:]
    answer = ours.post(f"/v2/models/{RATINGS}/infer", json=films())
    trace = trace_of(ours, answer.headers["x-request-id"])
    assert (trace["kind"], trace["model"]) == ("rating", RATINGS)
    assert trace["ratings"] == answer.json()["outputs"][0]["data"]
    refused = {**body, "outputs": [{"name": "other"}]}
    answer = ours.post(f"/v2/models/{LISTS}/infer", json=refused)
    assert answer.status_code == 400
    time.sleep(0.3)
    assert ours.get(f"/api/v1/predictions/{answer.headers['x-request-id']}").status_code == 404


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (films(tensor("startYear", [1999, 2001], shape=[3])), "shape"),
        (films(tensor("startYear", [1999, 2001], shape=[-2])), "shape"),
        (films(tensor("startYear", [1999])), "one length"),
        (films(tensor("startYear", ["x", 2001])), "FP64"),
        (films(tensor("startYear", [True, 2001])), "FP64"),
        (films(tensor("startYear", [[[1999]], 2001])), "FP64"),
        (films(tensor("startYear", [10**6, 2001])), "startYear"),
        (films(tensor("numVotes", [1.5, 2], "INT32")), "INT32"),
        (films(tensor("startYear", [1999, 2001], "FP99")), "datatype"),
        (films(tensor("other", [1, 2])), "other"),
        (films(outputs=[{"name": "other"}]), "other"),
        ({"inputs": [tensor("startYear", [1999])]}, "numVotes"),
        ({"inputs": []}, "startYear"),
        ({"inputs": [tensor("startYear", [1]), tensor("startYear", [1])]}, "once"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    ours: httpx.Client, body: dict[str, Any], word: str
) -> None:
    answer = ours.post(f"/v2/models/{RATINGS}/infer", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert word in answer.json()["error"]


def test_unknown_values_and_columns_of_one(ours: httpx.Client) -> None:
    body = films(
        tensor("startYear", [None, 2001]),
        tensor("runtimeMinutes", [[100], [120]], shape=[2, 1]),
        tensor("numVotes", [5, 6], "INT64"),
    )
    assert ours.post(f"/v2/models/{RATINGS}/infer", json=body).status_code == 200
    nobody = {"inputs": [tensor("user_id", [None], "BYTES")]}
    assert ours.post(f"/v2/models/{LISTS}/infer", json=nobody).status_code == 400
    far = {"inputs": [tensor("user_id", [1], "INT64"), tensor("k", [101], "INT32")]}
    assert ours.post(f"/v2/models/{LISTS}/infer", json=far).status_code == 400


def test_a_model_that_is_not_loaded_is_not_ready(tmp_path: Path) -> None:
    with running(Settings(home=tmp_path)) as url, httpx.Client(base_url=url) as api:
        answer = api.get(f"/v2/models/{RATINGS}/ready")
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert answer.json()["error"]
        assert api.get(f"/v2/models/{RATINGS}").json()["versions"] == []
        assert api.post(f"/v2/models/{RATINGS}/infer", json=films()).status_code == 503


_PEER = """
import sys
import numpy as np
from kserve import InferOutput, InferResponse, Model, ModelServer

class Predictor(Model):
    def __init__(self):
        super().__init__("movie_predictor")
        self.ready = True
    async def get_input_types(self):
        names = ("startYear", "runtimeMinutes", "numVotes")
        return [{"name": name, "datatype": "FP64", "shape": [-1]} for name in names]
    async def get_output_types(self):
        return [{"name": "rating", "datatype": "FP64", "shape": [-1]}]
    def predict(self, request, headers=None, response_headers=None):
        columns = {each.name: each.as_numpy() for each in request.inputs}
        rating = InferOutput("rating", [len(columns["startYear"])], "FP64")
        rating.set_data_from_numpy(np.full(len(columns["startYear"]), 6.5), binary_data=False)
        return InferResponse(request.id, self.name, [rating])

server = ModelServer(http_port=int(sys.argv[1]), enable_grpc=False, workers=1)
server.start([Predictor()])
"""


@pytest.fixture(scope="module")
def kserve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """KServe's Python server in an environment of its own, kept in the user's cache."""
    uv = shutil.which("uv")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "movie-mlops"
    folder = cache / KSERVE.replace("==", "-")
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        make = [uv, "venv", "-q", "-p", sys.executable] if uv else [sys.executable, "-m", "venv"]
        put = [uv, "pip", "install", "-q", "-p", str(python)] if uv else [
            str(python), "-m", "pip", "install", "-q",
        ]  # fmt: skip
        subprocess.run([*make, str(folder)], check=True)
        subprocess.run([*put, KSERVE], check=True)
        (folder / "ready").touch()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("kserve") / "log"
    with log.open("wb") as out:
        process = subprocess.Popen([str(python), "-c", _PEER, str(port)], stdout=out, stderr=out)
    try:
        address = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=address, timeout=20, headers=ALONE) as client:
            deadline = time.monotonic() + 120
            while True:
                try:
                    client.get("/v2/health/ready").raise_for_status()
                    break
                except httpx.HTTPError:
                    assert process.poll() is None, log.read_text()[-2000:]
                    assert time.monotonic() < deadline, log.read_text()[-2000:]
                    time.sleep(0.2)
            yield client
    finally:
        process.terminate()
        process.wait(20)


INFER = f"/v2/models/{RATINGS}/infer"
NOBODY = "/v2/models/nobody"
CALLS: dict[str, tuple[str, str, Any]] = {
    "server": ("GET", "/v2", None),
    "live": ("GET", "/v2/health/live", None),
    "ready": ("GET", "/v2/health/ready", None),
    "models": ("GET", "/v2/models", None),
    "metadata": ("GET", f"/v2/models/{RATINGS}", None),
    "model ready": ("GET", f"/v2/models/{RATINGS}/ready", None),
    "no such model": ("GET", NOBODY, None),
    "no such model ready": ("GET", f"{NOBODY}/ready", None),
    "infer": ("POST", INFER, films()),
    "infer with outputs": ("POST", INFER, films(outputs=[{"name": "rating"}])),
    "infer no such model": ("POST", f"{NOBODY}/infer", films()),
    "no JSON": ("POST", INFER, b'{"inputs":'),
    "no inputs": ("POST", INFER, {}),
    "a list": ("POST", INFER, []),
    "data is no list": ("POST", INFER, films(tensor("startYear", [1, 2]) | {"data": 5})),
    "no shape": ("POST", INFER, {"inputs": [{"name": "a", "datatype": "FP64", "data": [1]}]}),
    "wrong datatype": ("POST", INFER, films(tensor("startYear", [1999, 2001], "FP99"))),
    "wrong method": ("GET", INFER, None),
}
WORSE = {
    "wrong shape": ("POST", INFER, films(tensor("startYear", [1999, 2001], shape=[3]))),
    "wrong value": ("POST", INFER, films(tensor("startYear", ["x", 2001]))),
    "unknown input": ("POST", INFER, {"inputs": [tensor("other", [1])]}),
    "nothing": ("POST", INFER, {"inputs": []}),
}
"""Where KServe answers a client's mistake with a 500; the specification says 400, and so do we."""
VERSIONS = {
    "version": ("GET", f"/v2/models/{RATINGS}/versions/1", None),
    "version ready": ("GET", f"/v2/models/{RATINGS}/versions/1/ready", None),
    "version infer": ("POST", f"/v2/models/{RATINGS}/versions/1/infer", films()),
}
"""What KServe answers with 501 and we answer."""


def call(client: httpx.Client, method: str, path: str, body: Any) -> httpx.Response:
    if isinstance(body, bytes):
        return client.request(
            method, path, content=body, headers={"Content-Type": "application/json"}
        )
    return client.request(method, path, json=body)


def kinds(value: Any) -> Any:
    """The shape of a JSON value: keys in order and types; a list by its first element."""
    if isinstance(value, dict):
        return {key: kinds(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [kinds(value[0])] if value else []
    return type(value).__name__


OURS_BEYOND = {"model_version": "NoneType", "parameters": "NoneType", "versions": "NoneType"}
"""Optional members that KServe leaves null and we fill."""


def bare(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: bare(inner) for key, inner in value.items() if key not in OURS_BEYOND}
    return [bare(each) for each in value] if isinstance(value, list) else value


@pytest.mark.engine("kserve")
@pytest.mark.parametrize("name", CALLS)
def test_each_call_is_answered_as_by_kserve(
    ours: httpx.Client, kserve: httpx.Client, name: str
) -> None:
    mine, theirs = call(ours, *CALLS[name]), call(kserve, *CALLS[name])
    assert mine.status_code == theirs.status_code, (mine.text, theirs.text)
    if theirs.status_code >= 400:
        if "error" in theirs.json():
            assert isinstance(mine.json()["error"], str)
        return
    assert mine.headers["content-type"] == theirs.headers["content-type"]
    assert list(mine.json()) == list(theirs.json())
    first = {"infer": "outputs", "infer with outputs": "outputs", "metadata": "inputs"}
    if name in first:  # of ours there are more; the first ones are the same
        assert bare(kinds(mine.json()[first[name]])) == bare(kinds(theirs.json()[first[name]]))
    else:
        mine_kinds, their_kinds = bare(kinds(mine.json())), bare(kinds(theirs.json()))
        assert mine_kinds == their_kinds or mine_kinds | {"extensions": ["str"]} == their_kinds


@pytest.mark.engine("kserve")
@pytest.mark.parametrize("name", WORSE)
def test_mistakes_are_the_clients(ours: httpx.Client, kserve: httpx.Client, name: str) -> None:
    assert call(kserve, *WORSE[name]).status_code == 500
    mine = call(ours, *WORSE[name])
    assert mine.status_code == 400
    assert isinstance(mine.json()["error"], str)


@pytest.mark.engine("kserve")
@pytest.mark.parametrize("name", VERSIONS)
def test_versions_are_answered(ours: httpx.Client, kserve: httpx.Client, name: str) -> None:
    assert call(kserve, *VERSIONS[name]).status_code == 501
    assert call(ours, *VERSIONS[name]).status_code == 200
