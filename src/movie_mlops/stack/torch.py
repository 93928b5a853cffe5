"""The PyTorch API of the house, as an engine beside the others."""

import sys

from movie_mlops.domain.versions import NEURAL_RECOMMENDER
from movie_mlops.settings import field_key, load_settings
from movie_mlops.stack.asking import http_get, modules, package_version
from movie_mlops.stack.base import Engine, Ground, Missing, Process
from movie_mlops.stack.files import read_json


class Torch(Engine):
    """One process; it works on the engines of the stack that run."""

    name, title, port = "torch", "PyTorch API", 8001
    metrics_path = "/metrics"

    def missing(self) -> Missing | None:
        """PyTorch."""
        return modules(["torch"], "torch")

    def version(self) -> str:
        """PyTorch's."""
        return package_version("torch")

    def waits_for(self, ground: Ground) -> str | None:
        """A network that is champion."""
        settings = load_settings(ground.home)
        models = read_json(settings.path(settings.serving_url) / "manifest.json").get("models", {})
        if models.get(NEURAL_RECOMMENDER, {}).get("champion"):
            return None
        return "no network yet: movie-mlops run neural_training rollout, then stack up torch"

    def processes(self, ground: Ground) -> tuple[Process, ...]:
        """The server."""
        command = (sys.executable, "-m", "movie_mlops", "torch", "--home", str(ground.home))
        port = ("--port", str(ground.port(self.name)))
        environment = {**ground.house(), field_key("host"): ground.host}
        return (Process("server", (*command, *port), environment),)

    def check(self, ground: Ground) -> None:
        """It lives."""
        http_get(ground, self.name, "/v2/health/live")
