"""Algorithms by name; a module is imported when its algorithm is asked for."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from numpy.typing import NDArray

from movie_mlops.domain.errors import ArtifactCorruptError, ConfigurationError
from movie_mlops.models.algorithms.base import Card, RatingRegressor, Recommender

_RECOMMENDERS = {
    "popularity": ("popularity", "Popularity"),
    "item_neighbours": ("item_neighbours", "ItemNeighbours"),
    "sequence_linear": ("sequence_linear", "SequenceLinear"),
    "numpy_mlp": ("numpy_mlp", "NumpyMlp"),
}
_REGRESSORS = {
    "random_forest": ("random_forest", "RandomForest"),
    "boosted": ("boosted", "Boosted"),
}
"""Name to module and class: one line more is all that a new algorithm needs here."""

RECOMMENDERS = tuple(_RECOMMENDERS)
REGRESSORS = tuple(_REGRESSORS)
BOUNDED_BY_MEMORY = ("sequence_linear",)
"""Those that take `max_memory_mb`."""


def create(name: str, **parameters: Any) -> Any:
    """A new, unfitted algorithm of this name.

    Raises:
        ConfigurationError: no algorithm has this name, or not these parameters.
    """
    try:
        return _class(name)(**parameters)
    except TypeError as error:
        message = f"{name} does not take these parameters: {error}"
        raise ConfigurationError(message) from error


def load(arrays: Mapping[str, NDArray[Any]], card: Card) -> Recommender | RatingRegressor:
    """The fitted model of an artifact; the card names its algorithm.

    Raises:
        ArtifactCorruptError: the card names no algorithm of ours, or the arrays do not fit it.
    """
    name = card.get("algorithm")
    if not isinstance(name, str) or name not in {**_RECOMMENDERS, **_REGRESSORS}:
        message = f"the card names the algorithm {name!r}, which does not exist"
        raise ArtifactCorruptError(message)
    model: Recommender | RatingRegressor = _class(name).from_artifact(arrays, card)
    return model


def _class(name: str) -> Any:
    known = {**_RECOMMENDERS, **_REGRESSORS}
    if name not in known:
        message = f"there is no algorithm {name!r}; there are: {', '.join(known)}"
        raise ConfigurationError(message)
    module, attribute = known[name]
    return getattr(import_module(f"{__name__}.{module}"), attribute)
