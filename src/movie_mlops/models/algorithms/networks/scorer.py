"""A fitted network model whose forward runs in PyTorch, on a GPU where there is one."""

from typing import Any

from movie_mlops.domain.errors import ConfigurationError
from movie_mlops.models.algorithms.base import Recommender
from movie_mlops.models.algorithms.networks.ligr import LigrOnDevice
from movie_mlops.models.algorithms.networks.neumf import NeuMFOnDevice


def torch_scorer(model: Any, device: str | None = None) -> Recommender:
    """The same model, scoring in PyTorch; equal to NumPy's scores up to rounding.

    Raises:
        ConfigurationError: the model is no network, or there is no such device.
    """
    name = getattr(model, "name", type(model).__name__)
    if name == "sasrec":
        running: Recommender = model.running_on(LigrOnDevice(model.shape, model.weights, device))
    elif name == "neural_cf":
        running = model.running_on(NeuMFOnDevice(model.weights, device))
    else:
        message = f"{name} is no network: it runs in NumPy"
        raise ConfigurationError(message)
    return running
