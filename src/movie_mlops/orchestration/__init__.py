"""What runs pipelines: the one place that opens a runner by URL."""

from collections.abc import Mapping
from pathlib import Path

from movie_mlops.domain.errors import ConfigurationError
from movie_mlops.orchestration.inprocess import InProcessRunner

__all__ = ["InProcessRunner", "open_runner"]


def open_runner(url: str, runs: Path, environment: Mapping[str, str]) -> InProcessRunner:
    """The runner that the URL names.

    Raises:
        ConfigurationError: unknown scheme.
    """
    scheme = url.partition(":")[0]
    if scheme == "inprocess":
        return InProcessRunner(runs, environment)
    message = f"MOVIE_MLOPS_RUNNER_URL={url}: no runner has this scheme; use inprocess:"
    raise ConfigurationError(message)
