"""Real engines for tests, started by the project's own stack on free ports of loopback."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.kafka_broker import find_kafka

from movie_mlops.stack import Stack, free_ports
from movie_mlops.stack.order import reached


@contextmanager
def planned(ports: Mapping[str, int] | None = None) -> Iterator[Stack]:
    """A stack on these or free ports in which nothing runs; what is started ends with the block.

    Its folder is one that every user can reach, as PostgreSQL's must be.
    """
    folder = Path(tempfile.mkdtemp(prefix="movie-mlops-stack-"))
    folder.chmod(0o755)
    stack = Stack(folder, ports or free_ports(), kafka_home=find_kafka()[0])
    try:
        yield stack
    finally:
        stack.down()
        shutil.rmtree(folder, ignore_errors=True)


def required(stack: Stack, *names: str) -> None:
    """Skip, naming what is missing, unless these engines and what they need can be started."""
    for name in sorted(reached(names, {each.name: each.needs for each in stack.engines})):
        engine = next(each for each in stack.engines if each.name == name)
        if (missing := engine.missing()) is not None:
            pytest.skip(f"no {engine.title}: {missing.text}")


@contextmanager
def started(*names: str) -> Iterator[Stack]:
    """A stack in which these engines run; a skip that names what is missing."""
    with planned() as stack:
        required(stack, *names)
        stack.up(names)
        yield stack
