"""A house that `movie-mlops up` serves, for tests: started, asked, killed."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from movie_mlops.settings import PREFIX, load_settings

LONGEST_SECONDS = 150.0


def free_port() -> int:
    """A port of loopback that nobody holds now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(**more: str) -> dict[str, str]:
    """This process's environment with the settings of a small house."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(PREFIX)}
    small = {"SAMPLE_FILMS": "150", "SAMPLE_PEOPLE": "100", "PROMOTION_SAMPLES": "200"}
    return kept | {PREFIX + name: value for name, value in small.items()} | more


@dataclass
class House:
    """One home and the `up` that serves it; `more` are keys of its environment."""

    home: Path
    port: int = field(default_factory=free_port)
    workers: int = 1
    more: dict[str, str] = field(default_factory=dict)
    longest_seconds: float = LONGEST_SECONDS
    started_at: float = 0.0
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def output(self) -> str:
        return (self.home / "output.txt").read_text()

    @property
    def key(self) -> dict[str, str]:
        found = load_settings(self.home).admin_api_key
        assert found is not None
        return {"X-API-Key": found.get_secret_value()}

    def start(self) -> None:
        command = [sys.executable, "-m", "movie_mlops", "up", "--home", str(self.home)]
        command += ["--workers", str(self.workers)]
        self.started_at = time.monotonic()
        with (self.home / "output.txt").open("wb") as output:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port)],
                env=environment(**self.more),
                cwd=self.home,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait_for(self, what: Callable[[], Any]) -> float:
        """Seconds since the start until `what` is true."""
        assert self.process is not None
        while time.monotonic() - self.started_at < self.longest_seconds:
            assert self.process.poll() is None, self.output
            try:
                if what():
                    return time.monotonic() - self.started_at
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        pytest.fail(f"waited in vain; the house says:\n{self.output}")

    def get(self, path: str, **parameters: Any) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", params=parameters, timeout=15)

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        url = f"http://127.0.0.1:{self.port}{path}"
        return httpx.post(url, json=body, headers=headers, timeout=15)

    def path_of(self, user: str) -> str:
        answer = self.get("/api/v1/recommendations", user_id=user)
        return str(answer.json()["path"]) if answer.status_code == 200 else ""

    def family(self) -> list[psutil.Process]:
        """The supervisor and everything below it."""
        assert self.process is not None
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def kill(self) -> None:
        """Kill every process of the house at once."""
        if self.process is None or self.process.poll() is not None:
            return
        family = self.family()
        for each in family:
            each.send_signal(signal.SIGKILL)
        self.process.wait()
        psutil.wait_procs(family, timeout=10)
