"""A real Redis server for tests: a free port of loopback, a password, files in a folder."""

import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError


class RedisServer:
    """A server whose process may be stopped, killed, frozen and started again on its files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.password = secrets.token_urlsafe(12)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """As the settings name it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> "Redis":
        """A client that waits for nothing."""
        return Redis("127.0.0.1", self.port, password=self.password, socket_timeout=5)

    def start(self, *more: str) -> None:
        """Start and wait until it answers."""
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--requirepass", self.password, "--dir", str(self._folder)]
        command += ["--appendonly", "yes", "--appendfsync", "always", *more]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        with self.client() as client:
            while True:
                try:
                    client.ping()
                except (RedisConnectionError, RedisError):
                    said = (self._folder / "redis.log").read_text(errors="replace")[-2000:]
                    assert self._process.poll() is None, said
                    assert time.monotonic() < deadline, said
                    time.sleep(0.02)
                else:
                    return

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)
            self._process = None

    def freeze(self) -> None:
        """Let it hang: connections stay open and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


def redis_servers(folder: Path) -> Iterator[RedisServer]:
    """For a fixture: a started server, or a skip that names what is missing."""
    if shutil.which("redis-server") is None:
        pytest.skip("no Redis server: `redis-server` is not on the PATH (Debian: redis-server)")
    server = RedisServer(folder)
    server.start()
    yield server
    server.kill()
