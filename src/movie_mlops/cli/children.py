"""Processes that `up` keeps alive, and the port that it holds for them."""

import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from movie_mlops.domain.errors import ConfigurationError

STOP_SECONDS = 15.0
LONGEST_PAUSE_SECONDS = 30.0
LARGEST_LOG_BYTES = 20_000_000


@dataclass(slots=True)
class Child:
    """A process that is started again when it ends by itself, each time a little later."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path | None = None
    listener: socket.socket | None = None
    process: "subprocess.Popen[bytes] | None" = None
    next_start: float = 0.0
    starts: int = field(default=0)

    def keep_alive(self) -> None:
        """Start it when it does not run and its pause is over."""
        if self.process is not None and self.process.poll() is not None:
            pause = min(2.0**self.starts, LONGEST_PAUSE_SECONDS)
            ended = f"{self.name} ended ({self.process.returncode})"
            more = f" (its log: {self.log})" if self.log else ""
            click.secho(f"{ended}; starting it again in {pause:.0f} s{more}", err=True, fg="yellow")
            self.process, self.next_start = None, time.monotonic() + pause
        if self.process is None and time.monotonic() >= self.next_start:
            self.starts += 1
            with self._open_log() as log:
                self.process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
                    [sys.executable, "-m", "movie_mlops", *self.command],
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    pass_fds=() if self.listener is None else (self.listener.fileno(),),
                )

    def _open_log(self) -> Any:
        """Where its output goes: the log, begun anew when large, or this terminal."""
        if self.log is None:
            return nullcontext()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > LARGEST_LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        return self.log.open("ab")

    def stop(self) -> None:
        """Ask it to end."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def wait(self, deadline: float) -> None:
        """Wait for the end; kill after the deadline."""
        if self.process is None:
            return
        try:
            self.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def stop_all(servers: list[Child]) -> None:
    """Ask all to end, then wait; kill what does not."""
    for server in servers:
        server.stop()
    deadline = time.monotonic() + STOP_SECONDS
    for server in servers:
        server.wait(deadline)


def bind(host: str, port: int) -> socket.socket:
    """The port, held by the supervisor: while an API process starts again, nobody is refused.

    Raises:
        ConfigurationError: the port is taken.
    """
    listener = _bound(host, port, [socket.SO_REUSEADDR])
    listener.listen(1024)
    return listener


def join(host: str, port: int) -> socket.socket:
    """A socket for one of several processes that share the port, not listening yet.

    The kernel deals new connections out among the sockets that listen. On one socket for all,
    whoever wakes up first takes every connection that a client opens at once.

    Raises:
        ConfigurationError: the port is taken by somebody who does not share it.
    """
    return _bound(host, port, [socket.SO_REUSEADDR, socket.SO_REUSEPORT])


def _bound(host: str, port: int, options: Sequence[int]) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    for option in options:
        made.setsockopt(socket.SOL_SOCKET, option, 1)
    try:
        made.bind((host, port))
    except OSError as error:
        made.close()
        message = f"port {port} is taken; choose another: make up PORT=8010"
        raise ConfigurationError(message) from error
    return made
