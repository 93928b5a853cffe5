"""Where shared state is, by URL; a server that refuses or says nothing costs a bounded wait."""

import socket
import sys
import time
from pathlib import Path

import pytest

from movie_mlops.automation.loop_store import open_loop_store
from movie_mlops.domain.errors import ConfigurationError, EngineUnavailableError
from movie_mlops.models.serving.exposure_engines import open_exposure_store
from movie_mlops.models.serving.exposure_store import Batch
from movie_mlops.settings import Settings
from movie_mlops.state import Server, find_state


def test_a_folder_or_a_server(tmp_path: Path) -> None:
    assert find_state(Settings().state_url, tmp_path) == tmp_path / "var"
    assert find_state("sqlite:/somewhere", tmp_path) == Path("/somewhere")
    found = find_state("postgresql://a%40b@db:5433/house", tmp_path, "secret word")
    assert found == Server("db", 5433, "house", "a@b", "secret word")
    assert find_state("postgresql://u@db/house", tmp_path) == Server("db", 5432, "house", "u")
    assert "secret" not in f"{found} {found!r}"


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u@db/house", "", "var", "postgresql://db/house", "postgresql://u@db",
        "postgresql://u@db:port/house", "postgresql://u:secret@db/house", "postgresql://u@/house",
    ],
)  # fmt: skip
def test_what_is_no_url_is_said_without_its_password(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"MOVIE_MLOPS_STATE_URL=.*STATE_PASSWORD") as told:
        find_state(url, tmp_path)
    assert "secret" not in str(told.value)


def test_without_the_client_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in sys.modules if each.startswith("psycopg2")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("state.postgresql", "state.session", "models.serving.exposure_postgresql"):
        monkeypatch.delitem(sys.modules, f"movie_mlops.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    server = Server("127.0.0.1", 1, "house", "u")
    with pytest.raises(ConfigurationError, match="pip install"):
        open_exposure_store(server, "one")
    with pytest.raises(ConfigurationError, match="pip install"):
        open_loop_store(server)


@pytest.mark.parametrize("listens", [False, True])
def test_a_server_that_refuses_or_says_nothing(listens: bool) -> None:
    """Fault 56: opening asks nothing, a call ends soon, the next one at once."""
    pytest.importorskip("psycopg2", reason="the extra `stack` is not installed")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if listens:
            silent.listen()
        server = Server("127.0.0.1", silent.getsockname()[1], "house", "u")
        store, loop = open_exposure_store(server, "one"), open_loop_store(server)
        start = time.monotonic()
        with pytest.raises(EngineUnavailableError, match="does not answer"):
            store.write(Batch(0, 0, 1, b""))
        assert time.monotonic() - start < 10
        with pytest.raises(EngineUnavailableError, match="a moment ago"):
            store.write(Batch(0, 0, 1, b""))
        if not listens:
            with pytest.raises(EngineUnavailableError, match="does not answer"):
                loop.stopped()
            with pytest.raises(EngineUnavailableError, match="does not answer"):
                next(store.bodies("r", None, 1.0))
        store.close()
