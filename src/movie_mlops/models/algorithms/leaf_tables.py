"""Small regression trees as bit tables: one look-up per column finds every tree's leaf.

After QuickScorer (Lucchese et al., SIGIR 2015): each node that sends a value right rules out the
leaves on its left, as bits; what all nodes of a column rule out depends only on the interval
between thresholds in which the value lies, so it is looked up. The lowest bit left is the leaf.
"""

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import lru_cache, partial
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from movie_mlops.models.algorithms.trees import LEAF, Trees

MOST_LEAVES = 64
_ROWS_AT_ONCE = 4_096
_KEPT_ROWS = 256
Values = NDArray[np.float64]
_Column = tuple[int, list[float], int]  # its number, thresholds, where its rows begin
_Kept = tuple[
    Callable[[list[float]], tuple[float, ...]], Callable[[tuple[float, ...]], NDArray[Any]]
]


class LeafTables:
    """Trees of at most 64 leaves, as fast for one row as for many; the same sums as `Trees`.

    The table has one row for each interval of each column and one for its missing values, and one
    set of bits per tree. The columns of each group of `together` are those whose values come again
    together from row to row: what they leave is kept.
    """

    def __init__(self, *ensembles: Trees, together: Iterable[Collection[int]] = ()) -> None:
        trees = Trees.together(ensembles)
        counts, starts = _leaves(trees)
        order = np.argsort(trees.roots, kind="stable")
        tree_of = order[np.searchsorted(trees.roots[order], np.arange(len(starts)), "right") - 1]
        most = int(counts[trees.roots].max(initial=1))
        bits = np.dtype(np.uint32 if most <= 32 else np.uint64)
        self._leaves = np.zeros(len(trees.roots) * most)
        self._before = np.arange(len(trees.roots)) * most - 1  # where each tree's leaves begin
        leaf = trees.feature == LEAF
        self._leaves[tree_of[leaf] * most + starts[leaf]] = trees.value[leaf]
        self._all, self._one = bits.type(2 ** (8 * bits.itemsize) - 1), bits.type(1)
        inner = np.flatnonzero(~leaf)
        below = _runs(starts[trees.left[inner]], counts[trees.left[inner]], bits)
        self._columns: list[_Column] = []
        tables, offset = [np.empty((0, len(trees.roots)), bits)], 0
        for column in np.unique(trees.feature[inner]):
            here = trees.feature[inner] == column
            nodes, ruled_out = inner[here], ~below[here]
            thresholds, place = np.unique(trees.threshold[nodes], return_inverse=True)
            table = np.full((len(thresholds) + 2, len(trees.roots)), self._all, bits)
            np.bitwise_and.at(table, (place + 1, tree_of[nodes]), ruled_out)
            np.bitwise_and.accumulate(table[:-1], axis=0, out=table[:-1])
            right = ~trees.missing_left[nodes]
            np.bitwise_and.at(table, (-1, tree_of[nodes][right]), ruled_out[right])
            self._columns.append((int(column), thresholds.tolist(), offset))
            tables.append(table)
            offset += len(table)
        self._table = np.concatenate(tables)
        self._alone, self._together = self._columns, list[_Kept]()
        for group in together:
            kept = [each for each in self._alone if each[0] in group]
            if len(kept) > 1:
                self._together.append(self._keeping(kept))
                self._alone = [each for each in self._alone if each[0] not in group]

    def _keeping(self, columns: list[_Column]) -> _Kept:
        """How to find the values of these columns in a row, and what such values leave."""
        key = itemgetter(*[column for column, _, _ in columns])
        places = [
            (place, thresholds, offset) for place, (_, thresholds, offset) in enumerate(columns)
        ]
        return key, lru_cache(_KEPT_ROWS)(partial(self._left, places))

    def row(self, row: list[float]) -> Values:
        """Leaf value of one row of columns in each tree, shape [trees]; NaN is missing."""
        left = self._left(self._alone, row)
        for key, left_by in self._together:
            left &= left_by(key(row))
        return self._found(left)

    def _left(self, columns: list[_Column], row: Sequence[float]) -> NDArray[Any]:
        """The leaves that the values of these columns leave, as bits, shape [trees]."""
        places = [
            # NaN alone is not itself
            offset
            + (
                bisect_left(thresholds, value)
                if (value := row[column]) == value
                else len(thresholds) + 1
            )
            for column, thresholds, offset in columns
        ]
        if not places:
            return np.full(len(self._before), self._all)
        left: NDArray[Any] = np.bitwise_and.reduce(self._table.take(places, axis=0), axis=0)
        return left

    def values(self, features: Values) -> Values:
        """Leaf value of each row in each tree, shape [rows, trees]."""
        found = np.empty((len(features), len(self._before)))
        for start in range(0, len(features), _ROWS_AT_ONCE):
            part = features[start : start + _ROWS_AT_ONCE]
            left = np.full((len(part), len(self._before)), self._all)
            for column, thresholds, offset in self._columns:
                values = part[:, column]
                place = np.searchsorted(thresholds, values)
                place[np.isnan(values)] = len(thresholds) + 1
                left &= self._table[offset + place]
            found[start : start + len(part)] = self._found(left)
        return found

    def _found(self, left: NDArray[Any]) -> Values:
        """The value of the lowest leaf that is left, whose number is that of the bits below it."""
        numbers = np.bitwise_count(left ^ (left - self._one))  # one more than that
        places = np.add(self._before, numbers, dtype=np.int64)
        found: Values = self._leaves.take(places, mode="clip")  # none is out of range; no copy
        return found

    def sums(self, features: Values) -> Values:
        """Sum of the trees' leaf values per row; features [rows, columns], NaN is missing."""
        parts = [
            self.values(features[start : start + _ROWS_AT_ONCE]).sum(axis=1)
            for start in range(0, len(features), _ROWS_AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.empty(0)


def _leaves(trees: Trees) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number of leaves below each node, and the number of the first one in its tree."""
    left, right = trees.left.tolist(), trees.right.tolist()
    inner = np.flatnonzero(trees.feature != LEAF).tolist()
    counts = [1] * len(left)
    for node in reversed(inner):  # children stand behind their parents
        counts[node] = counts[left[node]] + counts[right[node]]
    starts = [0] * len(left)
    for node in inner:
        starts[left[node]] = starts[node]
        starts[right[node]] = starts[node] + counts[left[node]]
    return np.array(counts), np.array(starts)


def _runs(starts: NDArray[np.int64], counts: NDArray[np.int64], bits: np.dtype[Any]) -> Any:
    """Numbers with `counts` bits set from bit `starts` on."""
    one = np.uint64(1)
    runs = ((one << counts.astype(np.uint64)) - one) << starts.astype(np.uint64)
    return runs.astype(bits)
