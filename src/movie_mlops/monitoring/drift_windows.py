"""Two windows as blocks of values, cut by person and time, counted in bins, drawn anew."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Kind = Literal["numeric", "categorical"]

FEWEST_VALUES = 30
"""Of one feature in the current window; with fewer it is not compared."""
MOST_PEOPLE = 20_000
"""More are sampled: beyond them only differences are found that no model would feel."""
MOST_PIECES = 12
"""The newest pieces of the reference are compared: what is long ago tells of trends, not drift."""
OTHER = "other"
_FINE, _COARSE, _CATEGORIES = 64, 10, 30
_PACE_KEPT = 0.2  # people who do a fifth more or less keep their pace
_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Feature:
    """A watched quantity; `group` is `features`, `predictions` or `feedback`."""

    name: str
    group: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Window:
    """Blocks of values: of the reference one per person and piece of time, now one per person.

    `people[b]` tells whose block `b` is, by numbers that hold in both windows. `values` maps a
    feature to (block of each value, values).
    """

    people: Ints
    values: Mapping[str, tuple[Ints, NDArray[Any]]]

    @property
    def size(self) -> int:
        """Values of the feature that has most."""
        return max((len(values) for _, values in self.values.values()), default=0)


@dataclass(frozen=True, slots=True)
class Family:
    """Features that are measured on the same blocks."""

    features: tuple[Feature, ...]
    reference: Window
    current: Window


def cut(people: Ints, times: Floats, now: tuple[int, int, float]) -> tuple[Ints, Ints, Ints]:
    """Cut reference rows into pieces in which a person does about as much as one does now.

    Pieces are as long as the current window where people keep their pace, longer or shorter where
    it changed: how much people do is matched, what they do is compared. They count back from the
    last row, at most `MOST_PIECES`.

    Args:
        people: whose each row is [rows].
        times: seconds of each row [rows].
        now: rows, people and seconds of the current window.

    Returns:
        The kept rows; their blocks, from 0; the person of each block.
    """
    rows_now, people_now, seconds = now
    wanted = max(rows_now, 1) / max(people_now, 1)
    age = times.max(initial=0.0) - times
    longest = max(float(age.max(initial=0.0)), 1.0)

    def blocks_of(width: float) -> tuple[Ints, Ints]:
        kept = np.flatnonzero(age < MOST_PIECES * width)
        return kept, people[kept] * MOST_PIECES + (age[kept] // width).astype(np.int64)

    def miss(width: float) -> float:
        kept, keys = blocks_of(width)
        return abs(float(np.log(max(len(kept), 1) / max(len(np.unique(keys)), 1) / wanted)))

    best = seconds
    if seconds > longest or miss(seconds) > _PACE_KEPT:
        widths = seconds * 2.0 ** np.arange(-30, 31)
        best = min(widths[widths <= longest].tolist() or [longest], key=miss)
        best = min((best * 2.0 ** (np.arange(-7, 8) / 8)).tolist(), key=miss)
    kept, keys = blocks_of(best)
    found, block = np.unique(keys, return_inverse=True)
    return kept, block.astype(np.int64), found // MOST_PIECES


@dataclass(frozen=True, slots=True)
class Counted:
    """One feature's place among the columns; `coarse` maps its fine bins to labelled ones."""

    feature: Feature
    columns: slice
    coarse: Ints
    labels: tuple[str, ...]

    def merged(self, counts: Floats) -> Floats:
        """Counts [..., fine] in coarse bins."""
        starts = np.searchsorted(self.coarse, np.arange(len(self.labels)))
        merged: Floats = np.add.reduceat(counts, starts, axis=-1)
        return merged


class BlockCounts:
    """Counts of all blocks in fine bins; bins do not know which window a value is from."""

    def __init__(self, family: Family, rng: np.random.Generator) -> None:
        before, now = family.reference, family.current
        owners = np.concatenate([before.people, now.people])
        is_current = np.r_[np.zeros(len(before.people), bool), np.ones(len(now.people), bool)]
        order = np.argsort(owners, kind="stable")  # the blocks of one person lie together
        order = order[_sampled(owners[order], rng)]
        place = np.full(len(owners), -1)
        place[order] = np.arange(len(order))
        self._is_current = is_current[order]
        self.people = int(self._is_current.sum())
        self._starts = np.flatnonzero(np.r_[True, np.diff(owners[order]) != 0])
        self._sizes = np.diff(np.r_[self._starts, len(order)])
        self.counted: list[Counted] = []
        parts, width = [], 0
        for feature in family.features:
            blocks, values = _joined(feature, before, now, place)
            if (
                int(self._is_current[blocks].sum()) < FEWEST_VALUES
                or len(values) < 2 * FEWEST_VALUES
            ):
                continue
            numeric = feature.kind == "numeric"
            bins, coarse, labels = _numeric(values) if numeric else _categories(values)
            columns = slice(width, width + len(coarse))
            width = columns.stop
            self.counted.append(Counted(feature, columns, coarse, labels))
            ones, shape = np.ones(len(bins)), (len(order), len(coarse))
            parts.append(sparse.csr_array((ones, (blocks, bins)), shape=shape))
        self._counts = sparse.hstack(parts, format="csr") if parts else None
        self._total = self._sum(np.ones((1, len(order)))) if parts else np.zeros((1, 0))

    def observed(self) -> tuple[Floats, Floats]:
        """Counts of reference and current window [1, columns]."""
        now = self._sum(self._is_current[None].astype(float))
        return self._total - now, now

    def drawn(self, draws: int, rng: np.random.Generator) -> Iterator[tuple[Floats, Floats]]:
        """As `observed` [some, columns], had other blocks been the current ones.

        Each person independently is in it with one of the own blocks, by the chance that the
        person has a block in a piece of time; where traffic rose or fell, more or fewer are.
        Where more people are new now than usual, as many drawn ones are made new: their other
        blocks leave the reference.
        """
        chance = np.minimum(self._sizes * (self.people / self._sizes.sum()), 1.0)
        alone = self._sizes == 1
        known = float(chance[~alone].sum())
        more = self._is_current[self._starts[alone]].sum() - chance[alone].sum()
        made_new = min(max(more / known, 0.0), 1.0) if known else 0.0
        owner = np.repeat(np.arange(len(self._starts)), self._sizes)
        of_person = self._indicator(owner, np.arange(len(owner)), len(self._starts)) @ self._counts
        for begin in range(0, draws, _AT_ONCE):
            count = min(_AT_ONCE, draws - begin)
            row, person = np.nonzero(rng.random((count, len(chance))) < chance)
            block = self._starts[person] + rng.integers(0, self._sizes[person])
            now = self._sum(self._indicator(row, block, count))
            before = self._total - now
            is_new = (rng.random(len(row)) < made_new) & ~alone[person]
            if is_new.any():
                row, person, block = row[is_new], person[is_new], block[is_new]
                shape = (count, len(chance))
                leaving = sparse.csr_array((np.ones(len(row)), (row, person)), shape=shape)
                before -= (leaving @ of_person).toarray()
                before += self._sum(self._indicator(row, block, count))
            yield before, now

    def _indicator(self, row: Ints, block: Ints, rows: int) -> Any:
        """One row per window, ones at its blocks."""
        shape = (rows, len(self._is_current))
        return sparse.csr_array((np.ones(len(row)), (row, block)), shape=shape)

    def _sum(self, chosen: Any) -> Floats:
        summed = chosen @ self._counts
        return np.asarray(summed.toarray() if sparse.issparse(summed) else summed, float)


def _sampled(owners: Ints, rng: np.random.Generator) -> NDArray[np.bool_]:
    found, number = np.unique(owners, return_inverse=True)
    kept = np.ones(len(found), bool)
    if len(found) > MOST_PEOPLE:
        kept[rng.permutation(len(found))[MOST_PEOPLE:]] = False
    mask: NDArray[np.bool_] = kept[number]
    return mask


def _joined(
    feature: Feature, before: Window, now: Window, place: Ints
) -> tuple[Ints, NDArray[Any]]:
    """Block in the common order and value, of both windows; sampled-out people are left out."""
    nothing = (np.zeros(0, np.int64), np.zeros(0))
    first, values = before.values.get(feature.name, nothing)
    second, more = now.values.get(feature.name, nothing)
    blocks = place[np.concatenate([first, second + len(before.people)]).astype(np.int64)]
    joined = np.concatenate([values, more]) if len(values) and len(more) else np.r_[values, more]
    return blocks[blocks >= 0], joined[blocks >= 0]


def _numeric(values: NDArray[Any]) -> tuple[Ints, Ints, tuple[str, ...]]:
    """Bins of equal weight, coarse ones by tenths; a frequent value has a bin of its own."""
    steps = np.linspace(0.0, 1.0, _FINE + 1)[1:]
    edges = np.unique(np.quantile(values.astype(float), steps, method="inverted_cdf"))
    bins = np.searchsorted(edges, values.astype(float))
    weight = np.bincount(bins, minlength=len(edges))
    tenth = (np.cumsum(weight) - weight) * _COARSE // len(values)
    _, coarse = np.unique(tenth, return_inverse=True)
    last = np.flatnonzero(np.r_[np.diff(coarse) > 0, True])
    return bins, coarse.astype(np.int64), tuple(f"≤ {edges[at]:.4g}" for at in last)


def _categories(values: NDArray[Any]) -> tuple[Ints, Ints, tuple[str, ...]]:
    """One bin per category, the frequent ones first; rare ones share the last."""
    names, number, count = np.unique(values.astype(str), return_inverse=True, return_counts=True)
    rank = np.empty(len(names), np.int64)
    rank[np.argsort(-count, kind="stable")] = np.arange(len(names))
    shown = names[np.argsort(rank)][:_CATEGORIES].tolist()
    if len(names) > _CATEGORIES:
        shown[-1] = OTHER
    bins = np.minimum(rank[number], len(shown) - 1)
    return bins, np.arange(len(shown)), tuple(shown)
