"""Ensembles of binary regression trees as flat arrays, predicted with NumPy alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from movie_mlops.domain.errors import ArtifactCorruptError
from movie_mlops.models.algorithms.base import Arrays

LEAF = -1
_ROWS_AT_ONCE = 2_048


@dataclass(frozen=True, slots=True)
class Trees:
    """All nodes of all trees one after another; `feature` is -1 at a leaf.

    A row goes left when its value is at most the threshold, or missing where `missing_left`.
    """

    roots: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: NDArray[np.float64]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    missing_left: NDArray[np.bool_]
    value: NDArray[np.float64]

    def sums(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum of the trees' leaf values per row; features [rows, columns], NaN is missing."""
        parts = [self.values(part).sum(axis=1) for part in _parts(features)]
        return np.concatenate(parts) if parts else np.empty(0)

    def values(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Leaf value of each row in each tree, shape [rows, trees]."""
        rows = np.repeat(np.arange(len(features)), len(self.roots))
        nodes = np.tile(self.roots, len(features))
        active = np.flatnonzero(self.feature[nodes] != LEAF)
        while len(active):
            at = nodes[active]
            values = features[rows[active], self.feature[at]]
            go_left = (values <= self.threshold[at]) | (np.isnan(values) & self.missing_left[at])
            nodes[active] = np.where(go_left, self.left[at], self.right[at])
            active = active[self.feature[nodes[active]] != LEAF]
        leaves: NDArray[np.float64] = self.value[nodes].reshape(len(features), -1)
        return leaves

    def arrays(self, prefix: str) -> Arrays:
        """The arrays under names that begin with the prefix."""
        return {f"{prefix}_{name}": getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], prefix: str, columns: int) -> Self:
        """Rebuild and check that every node leads to a node and every feature to a column.

        Raises:
            ArtifactCorruptError: an array is missing, of wrong length, or leads out of range.
        """
        try:
            trees = cls(**{name: arrays[f"{prefix}_{name}"] for name in cls.__slots__})
        except KeyError as error:
            message = f"the trees lack the array {error}"
            raise ArtifactCorruptError(message) from error
        count = len(trees.feature)
        inner = trees.feature != LEAF
        ids = np.arange(count)
        children = np.concatenate([trees.left[inner], trees.right[inner]])
        parents = np.concatenate([ids[inner], ids[inner]])
        sound = (
            all(len(getattr(trees, name)) == count for name in cls.__slots__ if name != "roots")
            and bool(((trees.feature >= LEAF) & (trees.feature < columns)).all())
            and bool(((children > parents) & (children < count)).all())
            and bool(((trees.roots >= 0) & (trees.roots < count)).all())
            and bool(np.isfinite(trees.value).all())
        )
        if not sound:
            message = "the trees' arrays do not fit together"
            raise ArtifactCorruptError(message)
        return trees

    @classmethod
    def together(cls, ensembles: Sequence[Self]) -> Self:
        """One ensemble of the trees of several, in order."""
        offsets = np.cumsum([0, *(len(trees.feature) for trees in ensembles)])

        def all_of(name: str) -> NDArray[Any]:
            parts = [getattr(trees, name) for trees in ensembles]
            if name in ("roots", "left", "right"):
                parts = [part + offset for part, offset in zip(parts, offsets, strict=False)]
            return np.concatenate(parts)

        return cls(**{name: all_of(name) for name in cls.__slots__})

    @classmethod
    def joined(cls, trees: Sequence[Mapping[str, NDArray[Any]]]) -> Self:
        """One ensemble from single trees whose node numbers begin at 0."""
        sizes = [len(tree["feature"]) for tree in trees]
        offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])

        def all_of(name: str, dtype: Any) -> NDArray[Any]:
            return np.concatenate([tree[name] for tree in trees]).astype(dtype)

        shift = np.repeat(offsets, sizes)
        feature = all_of("feature", np.int32)
        return cls(
            roots=offsets.astype(np.int32),
            feature=feature,
            # a split on "is missing" alone has an infinite threshold; artifacts are finite
            threshold=np.nan_to_num(np.where(feature == LEAF, 0.0, all_of("threshold", "f8"))),
            left=np.where(feature == LEAF, 0, all_of("left", np.int64) + shift).astype(np.int32),
            right=np.where(feature == LEAF, 0, all_of("right", np.int64) + shift).astype(np.int32),
            missing_left=all_of("missing_left", np.bool_),
            value=all_of("value", np.float64),
        )


def _parts(features: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """The rows in parts of bounded size."""
    for start in range(0, len(features), _ROWS_AT_ONCE):
        yield features[start : start + _ROWS_AT_ONCE]


def trees_of_forest(forest: Any) -> Trees:
    """The trees of a scikit-learn forest; its prediction is their mean."""
    return Trees.joined(
        [
            {
                "feature": np.where(tree.children_left < 0, LEAF, tree.feature),
                "threshold": tree.threshold,
                "left": tree.children_left,
                "right": tree.children_right,
                "missing_left": tree.missing_go_to_left,
                "value": tree.value[:, 0, 0],
            }
            for tree in (estimator.tree_ for estimator in forest.estimators_)
        ]
    )


def trees_of_boosting(booster: Any) -> tuple[Trees, float]:
    """The trees of scikit-learn's histogram boosting and what to add to their sum."""
    trees = []
    for (predictor,) in booster._predictors:  # noqa: SLF001 (no public way to the nodes)
        nodes = predictor.nodes
        leaf = nodes["is_leaf"].astype(bool)
        trees.append(
            {
                "feature": np.where(leaf, LEAF, nodes["feature_idx"].astype(np.int64)),
                "threshold": nodes["num_threshold"],
                "left": nodes["left"].astype(np.int64),
                "right": nodes["right"].astype(np.int64),
                "missing_left": nodes["missing_go_to_left"],
                "value": nodes["value"],
            }
        )
    base = float(np.asarray(booster._baseline_prediction).ravel()[0])  # noqa: SLF001
    return Trees.joined(trees), base
