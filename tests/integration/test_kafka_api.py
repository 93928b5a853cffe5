"""The whole API on a real Kafka broker: two machines, one log."""

import secrets
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from tests.houses import furnish, running
from tests.kafka_broker import Broker

from movie_mlops.settings import Settings


@pytest.fixture
def machines(kafka: Broker, tmp_path: Path) -> list[Settings]:
    """Two homes with the same models that share one cluster."""
    url = f"kafka://{kafka.servers}/{secrets.token_hex(6)}."
    homes = [Settings(home=tmp_path / name, events_url=url) for name in ("one", "two")]
    for home in homes:
        furnish(home)
    return homes


def listed(api: httpx.Client, user: str, position: str = "") -> list[int]:
    headers = {"X-Position": position} if position else {}
    made = api.get(
        "/api/v1/recommendations", params={"user_id": user, "k": 100}, headers=headers
    ).json()
    return [item["movie_id"] for item in made["items"]]


def act(api: httpx.Client, film: int, event_id: str) -> httpx.Response:
    body = {"user_id": "1", "movie_id": film, "interaction_type": "like", "event_id": event_id}
    return api.post("/api/v1/events/user-interaction", json=body)


def comes_true(within_seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + within_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_an_act_changes_the_lists_of_every_machine(machines: list[Settings]) -> None:
    with (
        running(machines[0]) as one,
        running(machines[1]) as two,
        httpx.Client(base_url=one) as here,
        httpx.Client(base_url=two) as there,
    ):
        before = listed(here, "1")
        assert listed(there, "1") == before
        liked = before[0]
        answer = act(here, liked, "a")
        assert answer.status_code == 202
        assert answer.json()["status"] == "accepted"
        position = answer.json()["position"]
        assert position.startswith("user-events:")
        assert liked not in listed(here, "1")  # in the process that took it: at once
        assert liked not in listed(there, "1", position)  # elsewhere: waited for, 1 s at most
        assert comes_true(1.0, lambda: listed(there, "1") == listed(here, "1"))
        after = listed(here, "1")

        assert act(there, liked, "a").status_code == 202  # the same id again counts once
        assert act(there, before[1], "a").status_code == 202  # another act under it counts never
        last = act(there, before[2], "b").json()["position"]
        for api in (here, there):
            assert before[1] in listed(api, "1", last)
            assert before[2] not in listed(api, "1", last)
        assert len(listed(here, "1")) == len(after) - 1
        metrics = here.get("/metrics").text
        assert 'event_to_list_seconds_bucket{le="1.0"}' in metrics
        health = here.get("/health").json()
        assert health["status"] in ("ok", "healthy", "degraded")
    with running(machines[1]) as again, httpx.Client(base_url=again) as api:
        assert before[1] in listed(api, "1")  # a restart replays to the same lists
        assert not {liked, before[2]} & set(listed(api, "1"))


def test_while_the_broker_hangs_lists_are_answered_and_acts_are_not_taken(
    machines: list[Settings], kafka: Broker
) -> None:
    """Faults 25 and 56."""
    with running(machines[0]) as url, httpx.Client(base_url=url, timeout=30) as api:
        films = listed(api, "1")
        assert act(api, films[0], "a").status_code == 202
        kafka.freeze()
        try:
            body = {"user_id": "1", "movie_id": films[1], "interaction_type": "like"}
            address, limit = "/api/v1/events/user-interaction", {"X-Deadline-Ms": "20000"}
            refused = api.post(address, json=body, headers=limit)
            assert refused.status_code == 503, refused.text
            assert int(refused.headers["Retry-After"]) >= 1
            assert set(listed(api, "1")) == set(films[1:])
        finally:
            kafka.thaw()
        assert comes_true(30, lambda: act(api, films[1], "b").status_code == 202)
        assert films[1] not in listed(api, "1")
