"""Networks in PyTorch, which only the modules of this package may import, and their NumPy forward.

Everything that trains is asked for through `network_module`, so that serving never loads PyTorch.
"""

from importlib import import_module
from typing import Any

from movie_mlops.domain.errors import ConfigurationError


def network_module(name: str) -> Any:
    """A module of this package that needs PyTorch.

    Raises:
        ConfigurationError: PyTorch is not installed.
    """
    try:
        return import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        message = (
            "PyTorch is not installed, and this trains or runs a network: install the extra, "
            "`make setup TORCH=1` or `pip install 'movie-mlops[torch]'`"
        )
        raise ConfigurationError(message) from error
