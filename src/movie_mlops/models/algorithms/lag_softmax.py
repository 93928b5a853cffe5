"""The trained part of `linear_softmax`: its parameters in one flat array, gradients, AdamW."""

import math

import numpy as np
from numpy.typing import NDArray

from movie_mlops.models.algorithms.base import IntArray

SCALE = 20.0  # of the state: tables start small, the state must not
TABLE_SPREAD = 0.05
TAUS = (1.2, 30.0)  # shortest and longest memory that the lag weights start with
_ROWS_AT_ONCE = 256  # logits that stay in the processor's cache
_ELEMENTS_AT_ONCE = 65_536
_BETA1, _BETA2, _EPSILON = 0.9, 0.98, 1e-8
_IMPOSSIBLE = -1e9
_FAINTEST = -60.0  # below the best logit: powers that underflow make products very slow
_DRAWN_TIMES, _USES = (
    4,
    2_000,
)  # how much more dropout is drawn than a batch needs; how often it serves

Array = NDArray[np.floating]


class LagSoftmax:
    """h_t = 20 e^gain sum over heads k, lags l of exp(lags[k, l]) tables[s_(t-l), k].

    The logit of film j at place t is h_t . out[j] + bias[j]; the next film is to win a softmax
    against negatives that all places of a batch share. Views: `tables` [films, heads, dim],
    `out` [films, dim], `bias` [films], `lags` [heads, length], `gain` [1].
    """

    def __init__(
        self, films: int, dim: int, heads: int, length: int, rng: np.random.Generator
    ) -> None:
        shapes = {
            "tables": (films, heads, dim), "out": (films, dim), "bias": (films,),
            "lags": (heads, length), "gain": (1,),
        }  # fmt: skip
        self._slices, size = {}, 0
        for name, shape in shapes.items():
            self._slices[name] = (slice(size, size + int(np.prod(shape))), shape)
            size += int(np.prod(shape))
        self.flat: Array = np.zeros(size, np.float32)
        for name in ("tables", "out"):
            view = self.view(name)
            view[:] = TABLE_SPREAD * rng.standard_normal(view.shape, np.float32)
        taus = np.geomspace(*TAUS, heads)[:, None]
        self.view("lags")[:] = -np.arange(length) / taus - np.log(taus)

    @property
    def row_width(self) -> int:
        """Numbers of one looked-up row: heads times dim."""
        _, heads, dim = self._slices["tables"][1]
        return int(heads * dim)

    def view(self, name: str, flat: Array | None = None) -> Array:
        """A parameter as it lies in the flat array, or its gradient in another such array."""
        part, shape = self._slices[name]
        return (self.flat if flat is None else flat)[part].reshape(shape)

    def lag_weights(self, length: int) -> Array:
        """What place s adds to place t >= s, shape [length, length * heads], without the scale."""
        lags = self.view("lags")
        past = np.subtract.outer(np.arange(length), np.arange(length))
        weights = np.where(past >= 0, np.exp(lags[:, np.maximum(past, 0)]), 0).astype(lags.dtype)
        return np.ascontiguousarray(weights.transpose(1, 2, 0)).reshape(length, -1)

    def gradients(
        self,
        batch: tuple[IntArray, IntArray, NDArray[np.bool_]],
        negatives: IntArray,
        correction: float,
        keep: tuple[Array, Array] | None = None,
    ) -> tuple[float, Array]:
        """Mean cross-entropy in nats over the real places of a batch, and its flat gradient.

        Args:
            batch: inputs, targets, mask, each [pieces, length].
            negatives: distinct films; one that is a place's target does not count there.
            correction: added to the negatives' logits, as they stand for all films.
            keep: dropout's factors of the looked-up rows [places, heads * dim] and of the
                states [real places, dim].
        """
        inputs, targets, mask = batch
        pieces, length = inputs.shape
        tables = self.view("tables")
        films, heads, dim = tables.shape
        rows = tables.reshape(films, -1)[inputs.reshape(-1)]
        if keep is not None:
            rows *= keep[0]
        rows = rows.reshape(pieces, length * heads, dim)
        weights = self.lag_weights(length)
        weights *= SCALE * np.exp(self.view("gain")[0])
        states = (weights @ rows).reshape(-1, dim)
        real = np.flatnonzero(mask)
        dropped = states[real]
        if keep is not None:
            dropped *= keep[1]
        found = np.zeros_like(self.flat)
        wanted = targets.reshape(-1)[real]
        loss, back = self._softmax(dropped, wanted, negatives, correction, found)
        if keep is not None:
            back *= keep[1]
        by_state = np.zeros_like(states)
        by_state[real] = back
        self.view("gain", found)[0] = np.vdot(by_state, states)
        slope = by_state.reshape(pieces, length, dim)
        self._to_lags(slope, rows, weights, found)
        into = (weights.T @ slope).reshape(-1, heads * dim)
        if keep is not None:
            into *= keep[0]
        _add_rows(self.view("tables", found).reshape(films, -1), inputs.reshape(-1), into)
        return loss, found

    def _softmax(
        self, states: Array, wanted: IntArray, negatives: IntArray, correction: float, found: Array
    ) -> tuple[float, Array]:
        """The loss and its slope by state; the slopes by `out` and `bias` go into `found`."""
        out, bias = self.view("out"), self.view("bias")
        into_out, into_bias = self.view("out", found), self.view("bias", found)
        there = np.full(len(out), -1, np.int64)
        there[negatives] = np.arange(len(negatives))
        against, offsets = out[negatives], bias[negatives] + bias.dtype.type(correction)
        slope_against, slope_offsets = np.zeros_like(against), np.zeros_like(offsets)
        back, of_wanted = np.empty_like(states), out[wanted]
        own = np.einsum("ij,ij->i", states, of_wanted) + bias[wanted]
        own_slopes = np.empty_like(own)
        buffer = np.empty((_ROWS_AT_ONCE, len(negatives)), states.dtype)
        loss = 0.0
        for start in range(0, len(states), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            here, films = states[part], wanted[part]
            logits = np.matmul(here, against.T, out=buffer[: len(here)])
            logits += offsets
            twice = np.flatnonzero(there[films] >= 0)
            logits[twice, there[films[twice]]] = _IMPOSSIBLE
            most = np.maximum(logits.max(axis=1), own[part])
            logits -= most[:, None]
            np.maximum(logits, _FAINTEST, out=logits)
            np.exp(logits, out=logits)
            powers = np.exp(own[part] - most)
            total = logits.sum(axis=1) + powers
            loss += float((np.log(total) - (own[part] - most)).sum())
            share = 1 / (total * len(states))
            own_slopes[part] = powers * share - 1 / len(states)
            np.matmul(logits, against, out=back[part])
            back[part] *= share[:, None]
            slope_against += logits.T @ (here * share[:, None])
            slope_offsets += share @ logits
        back += own_slopes[:, None] * of_wanted
        _add_rows(into_out, wanted, own_slopes[:, None] * states)
        into_bias += np.bincount(wanted, own_slopes, len(into_bias)).astype(bias.dtype)
        into_out[negatives] += slope_against
        into_bias[negatives] += slope_offsets
        return loss / len(states), back

    def _to_lags(self, slope: Array, rows: Array, weights: Array, found: Array) -> None:
        """The slope by log lag weight: its weight times the sum along each diagonal."""
        lags = self.view("lags", found)
        length = slope.shape[1]
        by_weight = (slope @ rows.transpose(0, 2, 1)).sum(axis=0) * weights
        past = np.subtract.outer(np.arange(length), np.arange(length)).reshape(-1)
        ago = np.flatnonzero(past >= 0)
        for head in range(len(lags)):
            of_head = by_weight[:, head :: len(lags)].reshape(-1)
            lags[head] = np.bincount(past[ago], of_head[ago], lags.shape[1])


class Dropout:
    """Inverted, element-wise dropout: random slices of one large draw, renewed now and then."""

    def __init__(self, share: float, most: int, rng: np.random.Generator) -> None:
        """Factors are 0 with probability `share`, else 1 / (1 - share); at most `most` a time."""
        self._share, self._size, self._rng = share, _DRAWN_TIMES * most, rng
        self._uses = 0
        self._drawn: Array = np.empty(0, np.float32)

    def factors(self, rows: int, columns: int) -> Array:
        """Factors of this shape; read only."""
        if self._uses % _USES == 0:
            kept = self._rng.random(self._size, np.float32) >= self._share
            self._drawn = kept * np.float32(1 / (1 - self._share))
        self._uses += 1
        start = int(self._rng.integers(self._size - rows * columns, endpoint=True))
        return self._drawn[start : start + rows * columns].reshape(rows, columns)


class AdamW:
    """Adam (Kingma & Ba 2015) in place on one flat array, without decay of weights."""

    def __init__(self, flat: Array) -> None:
        self._flat, self._step = flat, 0
        self._mean, self._square = np.zeros_like(flat), np.zeros_like(flat)

    def step(self, slope: Array, rate: float) -> None:
        """One step, which overwrites the slope; in parts that stay in the processor's cache.

        The moments are kept undivided by 1 - beta, which saves passes; `root` and `rate` make
        up for it.
        """
        self._step += 1
        root = math.sqrt((1 - _BETA2) / (1 - _BETA2**self._step))
        rate *= (1 - _BETA1) / (1 - _BETA1**self._step) / root
        for start in range(0, len(slope), _ELEMENTS_AT_ONCE):
            part = slice(start, start + _ELEMENTS_AT_ONCE)
            mean, square, here = self._mean[part], self._square[part], slope[part]
            mean *= _BETA1
            mean += here
            here *= here
            square *= _BETA2
            square += here
            np.sqrt(square, out=here)
            here += _EPSILON / root
            np.divide(mean, here, out=here)
            here *= rate
            self._flat[part] -= here


def _add_rows(matrix: Array, rows: IntArray, values: Array) -> None:
    """matrix[rows] += values, rows may repeat: first comers, second comers, ... at once.

    Five times as fast as np.add.at and np.add.reduceat on rows of some hundred numbers.
    """
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    firsts = np.flatnonzero(np.diff(ordered, prepend=-1))
    comer = np.arange(len(rows)) - np.repeat(firsts, np.diff(firsts, append=len(rows)))
    by_comer = order[np.argsort(comer, kind="stable")]
    for some in np.split(by_comer, np.cumsum(np.bincount(comer))[:-1]):
        matrix[rows[some]] += values[some]
