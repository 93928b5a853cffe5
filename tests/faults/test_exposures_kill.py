"""Fault 77 for what was shown: killed workers lose no record, a damaged file stops no API."""

import time
from pathlib import Path

import httpx
from tests.faults.test_api_load import LISTS, until, workers
from tests.houses import furnish, running

from movie_mlops.settings import Settings


def test_what_was_written_survives_the_workers_and_is_seen_by_all(tmp_path: Path) -> None:
    with workers(tmp_path, 2) as house:
        url = f"http://127.0.0.1:{house.port}"
        ids = []
        for number in range(20):  # each on a connection of its own: both workers answer some
            made = httpx.get(f"{url}/api/v1/recommendations?user_id={number}", timeout=60)
            ids.append(made.json()["request_id"])
        time.sleep(0.5)
        for child in house.children:
            child.kill()
            child.wait()
        house.start()
        until(lambda: house.are_ready(1))
        with httpx.Client(base_url=url, timeout=60) as api:
            for number, request_id in enumerate(ids):
                found = api.get(f"/api/v1/predictions/{request_id}")
                assert found.status_code == 200
                assert found.json()["user_id"] == str(number)


def test_an_api_starts_whatever_became_of_the_exposures(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    furnish(settings)
    path = tmp_path / "var" / "exposures.db"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"no database" * 500)
    with running(settings) as url, httpx.Client(base_url=url) as api:
        answer = api.get(LISTS, params={"user_id": "1"})
        assert answer.status_code == 200
        traced = api.get(f"/api/v1/predictions/{answer.json()['request_id']}")
        assert traced.status_code == 200
    assert path.with_suffix(".damaged").read_bytes().startswith(b"no database")
