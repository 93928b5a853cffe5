"""One matrix from watched films to films: whole, in whole steps, or only its largest entries."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from movie_mlops.models.algorithms.base import FloatArray, IntArray

_ROWS_AT_ONCE = 16  # gathered rows that stay in the processor's nearest caches


@dataclass(frozen=True, slots=True)
class FilmMap:
    """One matrix [n, n]: row = watched film, column = film to score.

    Whole where there is only `values` [n, n]; with `steps` [n] it is rounded to whole steps of
    each row, int8. With `columns`, both are [n, k]: the k entries of each row largest in size,
    where no column stands twice in a row.
    """

    values: NDArray[np.float32 | np.int8]
    columns: NDArray[np.uint16 | np.int32] | None = None
    steps: FloatArray | None = None

    def sums(self, rows: IntArray, weights: FloatArray) -> FloatArray:
        """`weights @ matrix[rows]`, shape [n]."""
        size = len(self.values)
        if self.columns is not None:
            terms: NDArray[Any] = self.values.take(rows, axis=0, mode="clip")
            terms *= weights[:, None]
            total = np.zeros(size, np.float32)
            np.add.at(total, self._columns_of(rows), terms.reshape(-1))
            return total
        if self.steps is not None:
            weights = weights * self.steps[rows]
        total = np.zeros(size, np.float32)
        gathered = np.empty((min(_ROWS_AT_ONCE, len(rows)), size), np.float32)
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            some = rows[start : start + _ROWS_AT_ONCE]
            found = gathered[: len(some)]
            if self.steps is None:
                # mode: any but the default, which copies once more; all rows are in range
                self.values.take(some, axis=0, out=found, mode="clip")
            else:
                found[:] = self.values.take(some, axis=0, mode="clip")
            total += weights[start : start + _ROWS_AT_ONCE] @ found
        return total

    def add(self, total: FloatArray, row: int, weight: float) -> None:
        """Add `weight * matrix[row]` to `total` [n], in place."""
        if self.columns is not None:
            total[self.columns[row]] += weight * self.values[row]
        else:
            step = 1.0 if self.steps is None else float(self.steps[row])
            total += np.float32(weight * step) * self.values[row]

    def entries(self, rows: IntArray, columns: IntArray) -> FloatArray:
        """`matrix[rows][:, columns]` transposed: shape [columns, rows].

        The only one that also serves several maps stood one upon the other, [maps x n, n].
        """
        if self.columns is None:
            flat: NDArray[Any] = self.values.reshape(-1)
            whole: NDArray[Any] = flat.take(columns[:, None] + rows * self.values.shape[1])
            return whole if self.steps is None else whole * self.steps[rows]
        wanted = np.zeros(len(self.values), np.bool_)
        wanted[columns] = True
        kept = self._columns_of(rows)
        here = np.flatnonzero(wanted[kept])
        # of a film that is wanted twice the last place is filled
        place = np.empty(len(self.values), np.intp)
        place[columns] = np.arange(len(columns))
        row, at = np.divmod(here, self.columns.shape[1])
        found = np.zeros((len(columns), len(rows)), np.float32)
        found[place[kept[here]], row] = self.values[rows[row], at]
        return found[place[columns]]

    def _columns_of(self, rows: IntArray) -> NDArray[np.intp]:
        """The columns of these rows of a pruned map, one after the other, as NumPy indexes."""
        kept: NDArray[Any] = np.asarray(self.columns).take(rows, axis=0, mode="clip")
        return kept.reshape(-1).astype(np.intp)

    def row(self, row: int) -> FloatArray:
        """One row in full."""
        return self.sums(np.array([row]), np.ones(1, np.float32))


def column_type(films: int) -> type[np.uint16 | np.int32]:
    """The smallest that every column of a map of so many films fits in."""
    return np.uint16 if films <= np.iinfo(np.uint16).max + 1 else np.int32


def pruned(matrix: FloatArray, entries: int) -> tuple[FloatArray, NDArray[np.uint16 | np.int32]]:
    """Values and columns [n, entries] of the largest of each row in size, columns ascending."""
    kept = np.empty((len(matrix), entries), column_type(len(matrix)))
    for start in range(0, len(matrix), _ROWS_AT_ONCE):
        some = slice(start, start + _ROWS_AT_ONCE)
        kept[some] = np.argpartition(-np.abs(matrix[some]), entries - 1, axis=1)[:, :entries]
    kept.sort(axis=1)
    return np.take_along_axis(matrix, kept, axis=1), kept


def rounded(matrix: FloatArray) -> tuple[NDArray[np.int8], FloatArray]:
    """The matrix in steps [n] of each row, the largest entry of a row 127 of them."""
    steps = np.maximum(np.abs(matrix).max(axis=1, initial=0), 1e-30) / np.float32(127)
    values = np.empty(matrix.shape, np.int8)
    for start in range(0, len(matrix), _ROWS_AT_ONCE):
        some = slice(start, start + _ROWS_AT_ONCE)
        values[some] = np.rint(matrix[some] / steps[some, None])
    return values, steps.astype(np.float32)
