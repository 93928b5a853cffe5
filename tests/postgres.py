"""A real PostgreSQL for tests, started by the stack: a database for each, faults by signal."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import psutil
from tests.stacks import started

from movie_mlops.stack import Stack
from movie_mlops.stack.postgresql import connected
from movie_mlops.state import Server

ROLE = "movie_mlops"


@dataclass
class Postgres:
    """The server; what is asked of it here goes past the code under test."""

    stack: Stack

    def __post_init__(self) -> None:
        self._numbers = count(1)
        self._ground = self.stack.ground("postgresql")
        with connected(self._ground, "postgres", "postgres") as cursor:
            # no test cuts the power: what a killed server wrote, the system has
            cursor.execute("ALTER SYSTEM SET fsync = off")
            cursor.execute("SELECT pg_reload_conf()")

    def database(self) -> Server:
        """A new, empty database that the house's role owns."""
        name = f"test_{next(self._numbers)}"
        with connected(self._ground, "postgres", "postgres") as cursor:
            cursor.execute(f"CREATE DATABASE {name} OWNER {ROLE}")
        secret = self._ground.secret(f"postgresql-{ROLE}")
        return Server(self._ground.host, self._ground.port("postgresql"), name, ROLE, secret)

    @contextmanager
    def asking(self, server: Server) -> Iterator[Any]:
        """A cursor of the role, each statement a transaction."""
        with connected(self._ground, server.database, ROLE) as cursor:
            yield cursor

    def kill(self) -> None:
        """SIGKILL for the server and all its backends."""
        killed = self._processes()
        for process in killed:
            process.kill()
        while any(_lives(process) for process in killed):  # the stack reaps what it started
            time.sleep(0.01)

    def start(self) -> None:
        self.stack.up(["postgresql"])

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """The server and its backends stand still: connections stay open, nothing answers."""
        stopped = self._processes()
        for process in stopped:
            os.kill(process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in stopped[::-1]:
                if process.is_running():
                    os.kill(process.pid, signal.SIGCONT)

    def _processes(self) -> list[psutil.Process]:
        [status] = [each for each in self.stack.status() if each.name == "postgresql"]
        parents = [psutil.Process(pid) for pid in status.pids if psutil.pid_exists(pid)]
        return list(dict.fromkeys([p for each in parents for p in (each, *each.children(True))]))


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def postgres_servers() -> Iterator[Postgres]:
    """For a fixture; skips by name where there is no PostgreSQL."""
    with started("postgresql") as stack:
        yield Postgres(stack)
