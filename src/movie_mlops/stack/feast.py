"""Feast: its feature server and its page, both on the feature repository of the home."""

import sys
from pathlib import Path

from movie_mlops.settings import field_key
from movie_mlops.stack.asking import http_get, modules, package_version
from movie_mlops.stack.base import Engine, Ground, Missing, Process

_REPOSITORY = "feast_repo"


class _OfFeast(Engine):
    """What both servers have in common."""

    needs = ("redis",)
    start_seconds = 180.0  # half a minute of imports on a busy machine
    _arguments: tuple[str, ...]
    _path: str

    def missing(self) -> Missing | None:
        """Feast and what it needs for Redis."""
        return modules(["feast", "redis", "hiredis"], "stack")

    def version(self) -> str:
        """The package's."""
        return package_version("feast")

    def waits_for(self, ground: Ground) -> str | None:
        """The repository and its registry, which the pipeline of features writes."""
        registry = ground.home / "var" / "feast_registry.db"
        if (ground.home / _REPOSITORY / "feature_store.yaml").is_file() and registry.is_file():
            return None
        return f"no features yet: movie-mlops run feature_engineering, then stack up {self.name}"

    def processes(self, ground: Ground) -> tuple[Process, ...]:
        """The server; Feast reads paths relative to the repository."""
        folder = ground.home / _REPOSITORY
        program = str(Path(sys.executable).with_name("feast"))
        bound = ("-h", ground.host, "-p", str(ground.port(self.name)))
        environment = {**ground.house(), "FEAST_USAGE": "False", "DO_NOT_TRACK": "1"}
        command = (program, *self._arguments, *bound)
        return (Process("server", command, environment, folder=folder),)

    def check(self, ground: Ground) -> None:
        """It answers."""
        http_get(ground, self.name, self._path)


class Feast(_OfFeast):
    """The feature server."""

    name, title, port = "feast", "Feast", 6566
    # its metrics would take port 8000, which is the API's and cannot be changed
    _arguments, _path = ("serve", "--no-access-log", "--max-requests", "100000"), "/health"

    def environment(self, ground: Ground) -> dict[str, str]:
        """Features are asked here."""
        return {field_key("feature_server_url"): ground.url(self.name)}


class FeastUi(_OfFeast):
    """The page that shows the repository."""

    name, title, port = "feast-ui", "Feast UI", 8888
    _arguments, _path = ("ui",), "/projects-list.json"
