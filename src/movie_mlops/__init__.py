"""Movie recommender and rating predictor with its whole machine-learning life cycle.

The names of the contract import from here; each is loaded when it is first asked for.
"""

from importlib import import_module
from typing import Any

_WHERE = {
    "ABTestManager": "guide",
    "DataVersionManager": "data.versions",
    "ModelDriftEvent": "events.schemas",
    "MovieEventConsumer": "guide",
    "MovieEventProducer": "guide",
    "MoviePredictor": "models.algorithms.numpy_mlp",
    "SimpleDataLoader": "models.algorithms.numpy_mlp",
    "SimpleModelRegistry": "guide",
    "SystemHealthEvent": "events.schemas",
    "TMDBCrawler": "guide",
    "TMDBPreProcessor": "data.processors.watch_log",
    "UserInteractionEvent": "events.schemas",
    "count_parameters": "models.algorithms.neural_cf",
    "create_model": "models.algorithms.neural_cf",
    "get_data_loaders": "guide",
    "get_datasets": "guide",
    "get_model_registry": "guide",
    "init_seed": "models.algorithms.numpy_mlp",
    "train": "models.algorithms.numpy_mlp",
}
__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    """Load a name of the contract from its module."""
    if name not in _WHERE:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
