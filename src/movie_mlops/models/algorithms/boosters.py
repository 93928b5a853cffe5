"""Gradient boosting of three libraries behind one call; what is kept are flat trees."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from movie_mlops.domain.errors import ConfigurationError
from movie_mlops.models.algorithms.trees import LEAF, Trees, trees_of_boosting

Values = NDArray[np.float64]
LEARNERS = ("lightgbm", "catboost", "histogram")
_DEPTH = 6


@dataclass(frozen=True, slots=True)
class Boosting:
    """A fitted ensemble: `base` plus the sum of `trees`."""

    trees: Trees
    base: float


def available_learner(wanted: str | None) -> str:
    """The learner that was asked for, else the best one that is installed.

    Raises:
        ConfigurationError: there is no such learner, or its library is not installed.
    """
    if wanted is None:
        return "lightgbm" if find_spec("lightgbm") else "histogram"
    if wanted not in LEARNERS:
        message = f"there is no learner {wanted!r}; there are: {', '.join(LEARNERS)}"
        raise ConfigurationError(message)
    if wanted != "histogram" and not find_spec(wanted):
        message = f"{wanted} is not installed; the extra `training` has it"
        raise ConfigurationError(message)
    return wanted


@dataclass(frozen=True, slots=True)
class Recipe:
    """Which library boosts, and how far each tree goes."""

    learner: str
    learning_rate: float = 0.03


def boost(recipe: Recipe, features: Values, targets: Values, rounds: int, seed: int) -> Boosting:
    """Fit at most `rounds` trees to the mean of the targets, on one thread."""
    fits: dict[str, Callable[[float, Values, Values, int, int], Boosting]] = {
        "lightgbm": _lightgbm,
        "catboost": _catboost,
        "histogram": _histogram,
    }
    return fits[recipe.learner](recipe.learning_rate, features, targets, rounds, seed)


def _lightgbm(rate: float, features: Values, targets: Values, rounds: int, seed: int) -> Boosting:
    """Extremely random splits (Geurts et al. 2006): less of the noise of small rating counts."""
    import lightgbm  # noqa: PLC0415 (training only)

    parameters = {
        "objective": "regression", "learning_rate": rate, "num_leaves": 31, "extra_trees": True,
        "feature_fraction": 0.5, "min_data_in_leaf": 20, "lambda_l2": 1.0, "seed": seed,
        "num_threads": 1, "deterministic": True, "force_row_wise": True, "verbose": -1,
        "boost_from_average": False,
    }  # fmt: skip
    base = float(targets.mean())
    data = lightgbm.Dataset(features, targets - base)
    booster = lightgbm.train(parameters, data, rounds)
    return Boosting(_flat_lightgbm(booster.dump_model()["tree_info"]), base)


def _flat_lightgbm(trees: list[Any]) -> Trees:
    found = []
    for tree in trees:
        nodes: list[tuple[int, float, int, int, bool, float]] = []
        _walk(tree["tree_structure"], nodes)
        columns = zip(*nodes, strict=True)
        names = ("feature", "threshold", "left", "right", "missing_left", "value")
        found.append({name: np.array(c) for name, c in zip(names, columns, strict=True)})
    return Trees.joined(found)


def _walk(node: Any, nodes: list[tuple[int, float, int, int, bool, float]]) -> int:
    """Add a node and what is below it, parents first; return its number."""
    number = len(nodes)
    if "leaf_value" in node:
        nodes.append((LEAF, 0.0, 0, 0, False, float(node["leaf_value"])))
        return number
    nodes.append((LEAF, 0.0, 0, 0, False, 0.0))
    left = _walk(node["left_child"], nodes)
    right = _walk(node["right_child"], nodes)
    # a column without missing values in training sends a later one where zero would go
    missing = node["default_left"] if node["missing_type"] == "NaN" else node["threshold"] >= 0.0
    nodes[number] = (node["split_feature"], node["threshold"], left, right, bool(missing), 0.0)
    return number


def _catboost(rate: float, features: Values, targets: Values, rounds: int, seed: int) -> Boosting:
    """Oblivious trees of depth 6 (Prokhorenkova et al. 2018)."""
    import catboost  # noqa: PLC0415 (training only)

    booster = catboost.CatBoostRegressor(
        iterations=rounds, learning_rate=rate, depth=_DEPTH, l2_leaf_reg=5, random_strength=2,
        rsm=0.4, random_seed=seed, thread_count=1, verbose=0, allow_writing_files=False,
    ).fit(features, targets)  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        booster.save_model(str(path), format="json")
        model = json.loads(path.read_text())
    scale, (bias,) = model["scale_and_bias"]
    return Boosting(_flat_catboost(model["oblivious_trees"], scale), bias)


def _flat_catboost(trees: list[Any], scale: float) -> Trees:
    """Each level of an oblivious tree asks one question, the first one is the leaf's last bit."""
    found = []
    for tree in trees:
        splits = (tree["splits"] or [])[::-1]  # a tree without a split is one leaf
        inner = 2 ** len(splits) - 1
        count = 2 * inner + 1
        level = np.log2(np.arange(1, inner + 1)).astype(int)
        numbers = np.arange(inner)
        leaves = np.arange(inner + 1)
        found.append(
            {
                "feature": np.concatenate(
                    [[splits[at]["float_feature_index"] for at in level], np.full(inner + 1, LEAF)]
                ).astype(np.int64),
                "threshold": np.concatenate(
                    [[splits[at]["border"] for at in level], np.zeros(inner + 1)]
                ),
                "left": np.concatenate([2 * numbers + 1, np.zeros(inner + 1)]).astype(np.int64),
                "right": np.concatenate([2 * numbers + 2, np.zeros(inner + 1)]).astype(np.int64),
                "missing_left": np.ones(count, np.bool_),  # CatBoost's nan_mode Min
                "value": np.concatenate(
                    [np.zeros(inner), scale * np.array(tree["leaf_values"])[leaves]]
                ),
            }
        )
    return Trees.joined(found)


def _histogram(rate: float, features: Values, targets: Values, rounds: int, seed: int) -> Boosting:
    """scikit-learn's own, which needs no extra."""
    from sklearn.ensemble import HistGradientBoostingRegressor  # noqa: PLC0415 (training only)

    booster = HistGradientBoostingRegressor(
        max_iter=rounds, learning_rate=rate, max_leaf_nodes=31, min_samples_leaf=20,
        l2_regularization=1.0, max_features=0.3, early_stopping=False, random_state=seed,
    ).fit(features, targets)  # fmt: skip
    return Boosting(*trees_of_boosting(booster))
