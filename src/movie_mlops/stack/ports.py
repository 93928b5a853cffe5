"""Ports of the engines: defaults, choices that fit each other, and who holds one."""

import socket
from collections.abc import Iterable, Mapping
from contextlib import ExitStack

from movie_mlops.domain.errors import ConfigurationError
from movie_mlops.stack.base import Engine, Ground
from movie_mlops.stack.processes import holder, is_free


def default_ports(engines: Iterable[Engine]) -> dict[str, int]:
    """The default of every port by name."""
    defaults: dict[str, int] = {}
    for engine in engines:
        defaults |= {engine.name: engine.port, **engine.more_ports}
    return defaults


def check_choice(defaults: Mapping[str, int], wanted: Mapping[str, int]) -> None:
    """Raise ConfigurationError for a name that is no port's or a number that is none."""
    for name, port in wanted.items():
        if name not in defaults:
            message = f"no port {name[:50]!r}; there are {', '.join(defaults)}"
            raise ConfigurationError(message)
        if not 0 < port < 65_536:
            message = f"port {port} of {name} is none; 1 to 65535"
            raise ConfigurationError(message)


def check_distinct(ports: Mapping[str, int]) -> None:
    """Raise ConfigurationError when two names have one port."""
    owners: dict[int, str] = {}
    for name, port in ports.items():
        if (other := owners.setdefault(port, name)) != name:
            message = f"{other} and {name} both have port {port}: --port {name}=NUMBER"
            raise ConfigurationError(message)


def check_free(engine: Engine, ground: Ground) -> None:
    """Raise ConfigurationError, with who holds it, when a port of the engine is taken."""
    for name in (engine.name, *engine.more_ports):
        port = ground.port(name)
        if not is_free(ground.host, port):
            message = (
                f"port {port} of {engine.title} is taken by {holder(port)}, which this stack did "
                f"not start; choose another: movie-mlops stack up --port {name}={port + 10_000}"
            )
            raise ConfigurationError(message)


def free_ports(engines: Iterable[Engine]) -> dict[str, int]:
    """A free port of loopback for every name."""
    with ExitStack() as held:
        found = {}
        for name in default_ports(engines):
            probe = held.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            found[name] = probe.getsockname()[1]
    return found
