"""Fault 57 and 77: after a 202 the API may be killed; the click is still there afterwards."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from tests.houses import furnish

from movie_mlops.settings import Settings

_CHILD = """
import sys
from pathlib import Path
import uvicorn
from movie_mlops.api.main import create_app
from movie_mlops.settings import Settings
from tests.houses import api_services

settings = Settings(home=Path(sys.argv[1]), writes_burst=10_000)
app = create_app(settings, lambda: api_services(settings))
config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None)
server = uvicorn.Server(config)

async def main():
    import asyncio
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    await serving

import asyncio
asyncio.run(main())
"""


@contextmanager
def child(home: Path) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    command = [sys.executable, "-c", _CHILD, str(home)]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
                yield process, client
        finally:
            process.kill()


def listed(api: httpx.Client, user: str) -> list[int]:
    made = api.get("/api/v1/recommendations", params={"user_id": user, "k": 100}).json()
    return [item["movie_id"] for item in made["items"]]


def test_an_acknowledged_click_survives_kill_9(tmp_path: Path) -> None:
    furnish(Settings(home=tmp_path))
    with child(tmp_path) as (process, api):
        before = listed(api, "new")
        accepted = []
        for film in before[:20]:
            body = {"user_id": "new", "movie_id": film, "interaction_type": "like"}
            answer = api.post("/api/v1/events/user-interaction", json=body)
            assert answer.status_code == 202
            accepted.append(film)
        after = listed(api, "new")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert set(after) == set(before) - set(accepted)
    start = time.monotonic()
    with child(tmp_path) as (process, api):
        assert listed(api, "new") == after
        assert time.monotonic() - start < 20
        again = api.post(
            "/api/v1/events/user-interaction",
            json={"user_id": "new", "movie_id": before[0], "interaction_type": "view"},
        )
        assert again.status_code == 202
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) in (0, -signal.SIGTERM)


def test_two_replicas_agree_within_a_second(tmp_path: Path) -> None:
    furnish(Settings(home=tmp_path))
    with child(tmp_path) as (_, one), child(tmp_path) as (_, two):
        film = listed(one, "new")[0]
        body = {"user_id": "new", "movie_id": film, "interaction_type": "like"}
        position = one.post("/api/v1/events/user-interaction", json=body).json()["position"]
        start = time.monotonic()
        answer = two.get(
            "/api/v1/recommendations", params={"user_id": "new"}, headers={"X-Position": position}
        )
        assert time.monotonic() - start < 1
        assert answer.json()["path"] == "personal"
        assert listed(two, "new") == listed(one, "new")
