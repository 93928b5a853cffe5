"""The composition root: what a home consists of, made once from its settings.

A name is loaded when it is first asked for: what an API process serves from needs nothing of what
trains.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from movie_mlops.bootstrap.places import open_exposures, page_folder
    from movie_mlops.bootstrap.services import Services, build_services
    from movie_mlops.bootstrap.serving import open_api_services

__all__ = ["Services", "build_services", "open_api_services", "open_exposures", "page_folder"]

_WHERE = {
    "Services": "services",
    "build_services": "services",
    "open_api_services": "serving",
    "open_exposures": "places",
    "page_folder": "places",
}


def __getattr__(name: str) -> Any:
    """Load a name from its module."""
    if name not in _WHERE:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    found = globals()[name] = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    return found
