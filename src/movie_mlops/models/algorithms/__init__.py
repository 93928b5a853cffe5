"""Algorithms by name; a module is imported when its algorithm is asked for."""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from numpy.typing import NDArray

from movie_mlops.domain.errors import ArtifactCorruptError, ConfigurationError
from movie_mlops.models.algorithms.base import Card, RatingRegressor, Recommender

_RECOMMENDERS = {
    "popularity": ("popularity", "Popularity"),
    "item_neighbours": ("item_neighbours", "ItemNeighbours"),
    "ease": ("ease", "Ease"),
    "implicit_als": ("implicit_als", "ImplicitAls"),
    "sequence_linear": ("sequence_linear", "SequenceLinear"),
    "linear_softmax": ("linear_softmax", "LinearSoftmax"),
    "blend": ("blend", "Blend"),
    "numpy_mlp": ("numpy_mlp", "NumpyMlp"),
    "neural_cf": ("neural_cf", "NeuralCf"),
    "sasrec": ("sasrec", "Sasrec"),
    "neural_blend": ("blend", "NeuralBlend"),
    "neural_ensemble": ("blend", "NeuralEnsemble"),
}
_REGRESSORS = {
    "random_forest": ("random_forest", "RandomForest"),
    "boosted": ("boosted", "Boosted"),
}
"""Name to module and class: one line more is all that a new algorithm needs here."""

RECOMMENDERS = tuple(_RECOMMENDERS)
REGRESSORS = tuple(_REGRESSORS)
NETWORKS = ("neural_cf", "sasrec", "neural_blend", "neural_ensemble")
"""Those that need PyTorch to be fitted; they are served without it."""
BOUNDED_BY_MEMORY = (
    "sequence_linear", "linear_softmax", "ease", "blend", "neural_blend", "neural_ensemble",
)  # fmt: skip
"""Those that take `max_memory_mb`."""


def fittable() -> tuple[str, ...]:
    """The recommenders that this environment can fit."""
    has_torch = find_spec("torch") is not None
    return tuple(name for name in RECOMMENDERS if has_torch or name not in NETWORKS)


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
