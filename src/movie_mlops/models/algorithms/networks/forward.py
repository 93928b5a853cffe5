"""The LiGR network's forward in NumPy: what serving runs, without PyTorch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from movie_mlops.models.algorithms.base import FloatArray, IntArray
from movie_mlops.models.algorithms.networks.gaps import buckets

WIDE_GAIN = 20.0
NORM_EPSILON = 1e-5
_TOKENS_AT_ONCE = 4_096

History = NDArray[np.integer[Any]]
Past = tuple[FloatArray, FloatArray]
"""Keys and values of the films before, [rows, heads, films, head width], of one block."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a LiGR network; `wide` adds the branch of weighted sums over films.

    `gaps` is how many buckets of time between acts attention tells apart, 0: none.
    """

    dim: int = 128
    blocks: int = 2
    heads: int = 4
    length: int = 128
    feed_forward: int = 256
    wide: bool = False
    gaps: int = 0

    def arrays(self, items: int) -> dict[str, tuple[int, ...]]:
        """Name to shape of the weights for this many films."""
        dim, blocks, wide = self.dim, self.blocks, 2 if self.wide else 0
        # left out when there are none: artifacts made before there were gaps have no such array
        gaps = {"gaps": (blocks, self.heads, self.gaps)} if self.gaps else {}
        return gaps | {
            "films": (items, dim),
            "film_bias": (items,),
            "norms": (blocks, 2, 2, dim),  # before attention and feed-forward: scale, shift
            "attention_in": (blocks, 4 * dim, dim),  # query, key, value, gate
            "attention_out": (blocks, dim, dim),
            "lags": (blocks, self.heads, self.length),
            "forward_in": (blocks, 2 * self.feed_forward + dim, dim),  # two halves, gate
            "forward_out": (blocks, dim, self.feed_forward),
            "last_norm": (2, dim),
            "wide_films": (wide, items, dim),
            "wide_lags": (wide, self.length),
        }


class Forward:
    """The network over given weights (see `Shape.arrays`); they may be memory maps."""

    def __init__(self, shape: Shape, weights: Mapping[str, NDArray[Any]]) -> None:
        self.shape = shape
        self.weights = {name: np.asarray(weights[name]) for name in shape.arrays(0)}
        # Every row of lags is a window of one line: the longest lag first, what lies ahead at -inf
        lags = self.weights["lags"]
        ahead = np.full((*lags.shape[:2], shape.length - 1), -np.inf, np.float32)
        self._lags = np.concatenate([lags[..., ::-1], ahead], axis=-1)
        self._wide_lags = WIDE_GAIN * np.exp(self.weights["wide_lags"])

    def states(
        self, histories: Sequence[History], times: Sequence[IntArray] | None = None
    ) -> FloatArray:
        """What the network makes of each history, [histories, dim]; none may be empty.

        `times` are those of the acts (microseconds); without them all count as equally far.
        """
        found = np.empty((len(histories), self.shape.dim), np.float32)
        timed = times is not None and self.shape.gaps > 0
        for chosen, lengths in self._alike(histories):
            items = _padded(histories, chosen, lengths)
            at = _padded(times, chosen, lengths) if timed and times is not None else None
            last, _ = self._run(items, None, lengths, at)
            films = [row[:length] for row, length in zip(items, lengths, strict=True)]
            found[chosen] = self._finish(last, films)
        return found

    def logits(self, states: FloatArray) -> FloatArray:
        """Scores [states, films]."""
        scores: FloatArray = states @ self.weights["films"].T
        scores += self.weights["film_bias"]
        return scores

    def states_without(
        self, history: History, latest: int, times: IntArray | None = None
    ) -> FloatArray:
        """The states when one of the `latest` films is taken out, the oldest of them first.

        What comes before the film is computed once; only the films after it are run again. The
        history must be longer than one film.
        """
        films = np.asarray(history)[-self.shape.length - 1 :]
        at = times[None, -len(films) :] if times is not None and self.shape.gaps else None
        _, past = self._run(films[None, :-1], None, None, at[:, :-1] if at is not None else None)
        found = np.empty((latest, self.shape.dim), np.float32)
        for row, place in enumerate(range(len(films) - latest, len(films))):
            kept = np.delete(films, place)
            start = min(place, len(kept) - 1)  # one film at least is run again
            before = [(keys[:, :, :start], values[:, :, :start]) for keys, values in past]
            kept_at = np.delete(at, place, axis=1) if at is not None else None
            last, _ = self._run(kept[None, start:], before, None, kept_at)
            found[row] = self._finish(last, [kept])[0]
        return found

    def _alike(self, histories: Sequence[History]) -> Iterator[tuple[IntArray, IntArray]]:
        """Numbers and lengths of histories of like length, the longest first."""
        lengths = np.array([min(len(history), self.shape.length) for history in histories])
        order = np.argsort(-lengths, kind="stable")
        while len(order):
            longest = int(lengths[order[0]])
            chosen, order = np.split(order, [max(1, _TOKENS_AT_ONCE // longest)])
            yield chosen, lengths[chosen]

    def _run(
        self,
        items: NDArray[np.integer[Any]],
        past: Sequence[Past] | None,
        lengths: IntArray | None = None,
        times: IntArray | None = None,
    ) -> tuple[FloatArray, list[Past]]:
        """The last film's state [rows, dim] before the final norm, and all keys and values.

        `past` are the blocks' keys and values of the films before `items`; `times` [rows, films]
        are those of both.
        """
        rows, count = items.shape
        ends = np.full(rows, count - 1) if lengths is None else lengths - 1
        x = self.weights["films"][items] * np.float32(self.shape.dim**0.5)
        kept: list[Past] = []
        for block in range(self.shape.blocks):
            normed = self._normed(x, block, 0)
            keys_values = self._keys_values(normed, block, past[block] if past else None)
            kept.append(keys_values)
            only_last = block == self.shape.blocks - 1
            if only_last:  # nobody looks at the other films any more
                x, normed = (of[np.arange(rows), ends][:, None] for of in (x, normed))
            before = keys_values[0].shape[2] - count
            bias = self._lags_of(block, before, count, ends if only_last else None)
            if times is not None:
                own = times[:, before:]
                own = own[np.arange(rows), ends][:, None] if only_last else own
                bias = bias + self._gaps_of(block, own, times)
            x = self._attended(x, normed, block, keys_values, bias)
            x = self._fed_forward(x, block)
        return x[:, 0], kept

    def _keys_values(self, normed: FloatArray, block: int, past: Past | None) -> Past:
        dim = self.shape.dim
        both = normed @ self.weights["attention_in"][block, dim : 3 * dim].T
        keys, values = self._heads(both[..., :dim]), self._heads(both[..., dim:])
        if past is not None:
            keys = np.concatenate([past[0], keys], axis=2)
            values = np.concatenate([past[1], values], axis=2)
        return keys, values

    def _lags_of(
        self, block: int, before: int, count: int, ends: NDArray[np.int64] | None
    ) -> FloatArray:
        """What each lag adds to attention, [1 or rows, heads, queries, films]."""
        line, length = self._lags[block], self.shape.length
        films = before + count
        if ends is not None:
            at = (length - 1 - before - ends)[:, None] + np.arange(films)
            found: FloatArray = line[:, at].transpose(1, 0, 2)[:, :, None]
            return found
        windows = sliding_window_view(line, films, axis=-1)
        every: FloatArray = windows[None, :, length - films : length - before][:, :, ::-1]
        return every

    def _gaps_of(self, block: int, own: IntArray, times: IntArray) -> FloatArray:
        """What the time between acts adds to attention, [rows, heads, queries, films]."""
        found: FloatArray = self.weights["gaps"][block][:, buckets(own, times)]
        return found.transpose(1, 0, 2, 3)

    def _attended(
        self, x: FloatArray, normed: FloatArray, block: int, past: Past, bias: FloatArray
    ) -> FloatArray:
        dim, weights = self.shape.dim, self.weights["attention_in"][block]
        keys, values = past
        queries = self._heads(normed @ weights[:dim].T)
        scores = queries @ keys.transpose(0, 1, 3, 2)
        scores *= np.float32((dim // self.shape.heads) ** -0.5)
        scores += bias
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        mixed = (scores @ values).transpose(0, 2, 1, 3).reshape(x.shape)
        gate = _sigmoid(normed @ weights[3 * dim :].T)
        added: FloatArray = x + mixed @ self.weights["attention_out"][block].T * gate
        return added

    def _fed_forward(self, x: FloatArray, block: int) -> FloatArray:
        wide = self.shape.feed_forward
        inner = self._normed(x, block, 1) @ self.weights["forward_in"][block].T
        left, right, gate = inner[..., :wide], inner[..., wide : 2 * wide], inner[..., 2 * wide :]
        mixed = left * _sigmoid(left) * right
        added: FloatArray = x + mixed @ self.weights["forward_out"][block].T * _sigmoid(gate)
        return added

    def _finish(self, last: FloatArray, histories: Sequence[History]) -> FloatArray:
        """The last norm, and the wide branch."""
        state = _norm(last, self.weights["last_norm"])
        if self.shape.wide:
            for row, history in enumerate(histories):
                films = history[::-1][: self.shape.length]
                for lags, table in zip(self._wide_lags, self.weights["wide_films"], strict=True):
                    state[row] += lags[: len(films)] @ table[films]
        return state

    def _normed(self, x: FloatArray, block: int, which: int) -> FloatArray:
        return _norm(x, self.weights["norms"][block, which])

    def _heads(self, x: FloatArray) -> FloatArray:
        """[rows, films, dim] as [rows, heads, films, head width]."""
        heads = self.shape.heads
        split: FloatArray = x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)
        return split


def _padded(rows: Sequence[NDArray[Any]], chosen: IntArray, lengths: IntArray) -> IntArray:
    """The ends of the chosen rows, [chosen, longest], padded on the right."""
    made = np.zeros((len(chosen), int(lengths[0])), np.int64)
    for place, (number, length) in enumerate(zip(chosen, lengths, strict=True)):
        made[place, :length] = rows[number][-length:]
    return made


def _norm(x: FloatArray, scale_shift: FloatArray) -> FloatArray:
    centred = x - x.mean(axis=-1, keepdims=True)
    spread = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + NORM_EPSILON)
    normed: FloatArray = centred / spread * scale_shift[0] + scale_shift[1]
    return normed


def _sigmoid(x: FloatArray) -> FloatArray:
    # exp of a large number is infinity, and 1 / (1 + infinity) the right answer
    with np.errstate(over="ignore"):
        found: FloatArray = np.asarray(1 / (1 + np.exp(-x)), np.float32)
    return found
