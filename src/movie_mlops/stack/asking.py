"""Short questions to engines: over HTTP, over a socket, and programs for their version."""

import http.client
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata, util
from pathlib import Path

from movie_mlops.domain.errors import EngineUnavailableError
from movie_mlops.stack.base import Ground, Missing

ANSWER_SECONDS = 2.0


def http_get(ground: Ground, engine: str, path: str) -> bytes:
    """The body of a 200 from the engine.

    Raises:
        EngineUnavailableError: it does not answer in two seconds, or with another status.
    """
    connection = http.client.HTTPConnection(
        ground.host, ground.port(engine), timeout=ANSWER_SECONDS
    )
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        message = f"{ground.url(engine)}{path} does not answer: {error}"
        raise EngineUnavailableError(message) from error
    finally:
        connection.close()
    if answer.status != http.client.OK:
        message = f"{ground.url(engine)}{path} answers {answer.status}"
        raise EngineUnavailableError(message)
    return body


def exchange(ground: Ground, engine: str, said: bytes, is_whole: Callable[[bytes], bool]) -> bytes:
    """What the engine answers on a socket to what was said, until it is whole.

    Raises:
        EngineUnavailableError: it does not answer in two seconds, or closes before.
    """
    heard = b""
    with _heard(ground, engine) as connection:
        connection.sendall(said)
        while not is_whole(heard):
            more = connection.recv(4096)
            if not more:
                message = "closed the connection"
                raise ConnectionError(message)
            heard += more
    return heard


@contextmanager
def _heard(ground: Ground, engine: str) -> Iterator[socket.socket]:
    address = (ground.host, ground.port(engine))
    try:
        with socket.create_connection(address, ANSWER_SECONDS) as connection:
            connection.settimeout(ANSWER_SECONDS)
            yield connection
    except OSError as error:
        message = f"{address[0]}:{address[1]} does not answer: {error}"
        raise EngineUnavailableError(message) from error


def program(name: str, package: str) -> Missing | None:
    """What is missing when the program is not on PATH: its Debian package."""
    if shutil.which(name):
        return None
    return Missing(f"{name} is not installed: apt-get install {package}", (package,))


def modules(names: Sequence[str], extra: str) -> Missing | None:
    """What is missing when a Python module is not there: the extra that brings it."""
    absent = [name for name in names if util.find_spec(name) is None]
    if not absent:
        return None
    return Missing(f"Python has no {', '.join(absent)}: pip install 'movie-mlops[{extra}]'")


def program_version(command: Sequence[str | Path], pattern: str) -> str:
    """What a program says of its version; empty when it says nothing of the kind."""
    try:
        ran = subprocess.run(  # noqa: S603 (the engine's own program)
            command, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(pattern, ran.stdout + ran.stderr)
    return found[1] if found else ""


def package_version(name: str) -> str:
    """The version of an installed Python package; empty when it is not."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
