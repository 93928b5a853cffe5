"""Nobody has to be started first: the house before its engines, then these one by one."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.stacks import planned, required
from tests.up_house import House

from movie_mlops.domain.versions import MOVIE_RECOMMENDER
from movie_mlops.models.registry import ModelRegistry
from movie_mlops.settings import PREFIX
from movie_mlops.stack import free_ports

LIKE: dict[str, Any] = {"user_id": "early-bird", "movie_id": 2, "interaction_type": "like"}
ACTS = "/api/v1/events/user-interaction"


def is_retriable(answer: httpx.Response) -> bool:
    return answer.status_code == 503 and "retry-after" in answer.headers


@pytest.mark.engine("kafka, redis, mlflow")
@pytest.mark.timeout(500)
def test_a_house_that_starts_before_its_engines_waits_for_each(tmp_path: Path) -> None:
    """Fault 73."""
    ports = free_ports()
    with planned(ports) as stack:
        required(stack, "kafka", "redis", "mlflow")
        at = {name: f"://127.0.0.1:{port}" for name, port in ports.items()}
        house = House(tmp_path / "home", longest_seconds=400)
        house.home.mkdir()
        house.more = {
            PREFIX + "EVENTS_URL": "kafka" + at["kafka"],
            PREFIX + "ONLINE_STORE_URL": "redis" + at["redis"] + "/0",
            PREFIX + "ONLINE_STORE_PASSWORD": stack.ground("redis").secret("redis"),
            PREFIX + "TRACKING_URL": "http" + at["mlflow"],
        }
        house.start()
        try:
            house.wait_for(lambda: "waiting for an engine" in house.output)
            assert is_retriable(house.post(ACTS, LIKE))
            assert is_retriable(house.get("/api/v1/features/user/1"))
            assert is_retriable(house.get("/mlflow/models"))
            assert house.path_of("1") == "static"
            assert {"read_only", "static"} <= house.get("/health").json()["limits"].keys()
            stack.up(["redis"])
            stack.up(["kafka"])
            house.wait_for(lambda: house.post(ACTS, LIKE).status_code == 202)
            stack.up(["mlflow"])
            house.wait_for(lambda: house.path_of("early-bird") == "personal")
            house.wait_for(lambda: "· ready ·" in house.output)
            assert house.get("/api/v1/features/user/1").json()["features"]["interaction_count"] > 0
            found = ModelRegistry("http" + at["mlflow"], tmp_path).get_model_metadata(
                MOVIE_RECOMMENDER
            )
            assert "champion" in found.aliases
            house.wait_for(lambda: house.get("/health").json()["status"] == "ok")
        finally:
            house.kill()
