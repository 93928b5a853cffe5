"""The port that `up` holds: for one process, or shared by several."""

import pytest

from movie_mlops.cli.children import bind, join
from movie_mlops.domain.errors import ConfigurationError

HOST = "127.0.0.1"


def test_a_shared_port_is_for_those_who_share_it_only() -> None:
    with join(HOST, 0) as held:
        port = held.getsockname()[1]
        with join(HOST, port) as first, join(HOST, port) as second:
            first.listen()
            second.listen()
            with pytest.raises(ConfigurationError, match=f"port {port} is taken"):
                bind(HOST, port)


def test_a_port_of_one_process_is_not_shared() -> None:
    with bind(HOST, 0) as held:
        port = held.getsockname()[1]
        for take in (bind, join):
            with pytest.raises(ConfigurationError, match="choose another"):
                take(HOST, port)
