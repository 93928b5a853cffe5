"""The LiGR network in PyTorch: gated attention over the films before.

Blocks after "From Features to Transformers" (LiGR, arXiv 2502.03417): pre-norm, gates after
attention and SwiGLU. Attention knows order by a learned bias per block, head and lag only, and
time, where wanted, by one per bucket of the time between two acts (as HSTU, arXiv 2402.17152).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from movie_mlops.models.algorithms.base import Arrays, FloatArray, IntArray
from movie_mlops.models.algorithms.networks.devices import choose_device
from movie_mlops.models.algorithms.networks.forward import (
    NORM_EPSILON,
    WIDE_GAIN,
    History,
    Shape,
)
from movie_mlops.models.algorithms.networks.gaps import buckets

_LAG_SCALES = (1.5, 60.0)  # of the first and the last head
_WIDE_SCALES = (1.2, 30.0)
_HISTORIES_AT_ONCE = 256
BLOCK_MATRICES = ("attention_in", "attention_out", "forward_in", "forward_out")


class Block(nn.Module):  # type: ignore[misc]  # PyTorch is not followed
    """Attention and feed-forward, each normed before and gated after."""

    def __init__(self, shape: Shape, generator: torch.Generator) -> None:
        super().__init__()
        dim, wide = shape.dim, shape.feed_forward
        self.shape = shape
        spread = 0.5 / dim**0.5
        residual = (2 * shape.blocks) ** -0.5

        def matrix(rows: int, columns: int, spread: float) -> nn.Parameter:
            return nn.Parameter(torch.randn(rows, columns, generator=generator) * spread)

        self.norms = nn.ModuleList(nn.LayerNorm(dim, NORM_EPSILON) for _ in range(2))
        self.attention_in = matrix(4 * dim, dim, spread)
        self.attention_out = matrix(dim, dim, spread * residual)
        self.forward_in = matrix(2 * wide + dim, dim, spread)
        self.forward_out = matrix(dim, wide, 0.5 / wide**0.5 * residual)
        scales = torch.from_numpy(np.geomspace(*_LAG_SCALES, shape.heads))
        self.lags = nn.Parameter((-torch.arange(shape.length) / scales[:, None]).float())
        self.gaps = nn.Parameter(torch.zeros(shape.heads, shape.gaps))

    def forward(
        self, x: Tensor, drop: Callable[[Tensor], Tensor], gaps: Tensor | None = None
    ) -> Tensor:
        """[rows, films, dim] to the same shape; each film sees itself and those before.

        `gaps` [rows, films, films] are buckets of the time between two acts.
        """
        rows, count, dim = x.shape
        inner = self.norms[0](x) @ self.attention_in.T
        queries, keys, values, gate = inner.split(dim, dim=-1)
        queries, keys, values = (
            of.view(rows, count, self.shape.heads, -1).transpose(1, 2)
            for of in (queries, keys, values)
        )
        scores = queries @ keys.transpose(-1, -2) * (dim // self.shape.heads) ** -0.5
        scores = scores + by_lag(self.lags[:, :count], float("-inf"))
        if gaps is not None:
            # an embedding's gradient would take three times as long
            found = self.gaps.index_select(1, gaps.flatten()).view(-1, *gaps.shape)
            scores = scores + found.transpose(0, 1)
        attention = scores.softmax(-1)
        mixed = (attention @ values).transpose(1, 2).reshape(rows, count, dim)
        x = x + drop(mixed @ self.attention_out.T) * gate.sigmoid()
        inner = self.norms[1](x) @ self.forward_in.T
        wide = self.shape.feed_forward
        left, right, gate = inner.split((wide, wide, dim), dim=-1)
        mixed = functional.silu(left) * right
        return x + drop(mixed @ self.forward_out.T) * gate.sigmoid()


class Ligr(nn.Module):  # type: ignore[misc]
    """States [rows, films, dim] of padded histories [rows, films]; `score` makes logits of them."""

    def __init__(self, films: int, shape: Shape, seed: int = 0) -> None:
        super().__init__()
        self.shape = shape
        generator = torch.Generator().manual_seed(seed)
        self.films = nn.Parameter(torch.randn(films, shape.dim, generator=generator) * 0.05)
        self.film_bias = nn.Parameter(torch.zeros(films))
        self.blocks = nn.ModuleList(Block(shape, generator) for _ in range(shape.blocks))
        self.last_norm = nn.LayerNorm(shape.dim, NORM_EPSILON)
        wide = len(_WIDE_SCALES) if shape.wide else 0
        drawn = torch.randn(wide, films, shape.dim, generator=generator) * 0.02
        self.wide_films = nn.ParameterList(nn.Parameter(table) for table in drawn)
        scales = torch.tensor(_WIDE_SCALES[:wide])[:, None]
        self.wide_lags = nn.Parameter(-torch.arange(shape.length) / scales - scales.log())

    def forward(
        self,
        items: Tensor,
        drop: Callable[[Tensor], Tensor] = nn.Identity(),  # noqa: B008 (it has no state)
        drop_wide: Callable[[Tensor], Tensor] = nn.Identity(),  # noqa: B008
        gaps: Tensor | None = None,
    ) -> Tensor:
        """The state after each film; `gaps`: see Block."""
        x = drop(functional.embedding(items, self.films) * self.shape.dim**0.5)
        for block in self.blocks:
            x = block(x, drop, gaps)
        state: Tensor = self.last_norm(x)
        if self.shape.wide:
            weights = WIDE_GAIN * by_lag(self.wide_lags[:, : items.shape[1]].exp(), 0.0)
            for table, of_lags in zip(self.wide_films, weights, strict=True):
                state = state + of_lags @ drop_wide(functional.embedding(items, table))
        return state

    def score(self, states: Tensor) -> Tensor:
        """Logits of all films."""
        return states @ self.films.T + self.film_bias

    def to_arrays(self) -> Arrays:
        """The weights as `Shape.arrays` names them."""
        layers = [block.norms for block in self.blocks]
        norms = [[[norm.weight, norm.bias] for norm in pair] for pair in layers]
        arrays: Arrays = {
            "films": _array(self.films),
            "film_bias": _array(self.film_bias),
            "norms": np.array([[[_array(v) for v in norm] for norm in pair] for pair in norms]),
            "last_norm": np.stack([_array(self.last_norm.weight), _array(self.last_norm.bias)]),
            "lags": np.stack([_array(block.lags) for block in self.blocks]),
            "gaps": np.stack([_array(block.gaps) for block in self.blocks]),
            "wide_films": np.array([_array(table) for table in self.wide_films], np.float32),
            "wide_lags": _array(self.wide_lags),
        }
        for name in BLOCK_MATRICES:
            arrays[name] = np.stack([_array(getattr(block, name)) for block in self.blocks])
        shapes = self.shape.arrays(len(self.films))
        return {name: arrays[name].reshape(shape) for name, shape in shapes.items()}

    @classmethod
    def from_arrays(cls, shape: Shape, arrays: Mapping[str, NDArray[Any]]) -> "Ligr":
        """The network with these weights."""
        network = cls(len(arrays["films"]), shape)

        def take(parameter: Tensor, array: NDArray[Any]) -> None:
            parameter.data.copy_(torch.from_numpy(np.array(array)))

        for name in ("films", "film_bias", "wide_lags"):
            take(getattr(network, name), arrays[name])
        for number, block in enumerate(network.blocks):
            gaps = ("gaps",) if shape.gaps else ()
            for name in ("lags", *gaps, *BLOCK_MATRICES):
                take(getattr(block, name), arrays[name][number])
            for norm, values in zip(block.norms, arrays["norms"][number], strict=True):
                take(norm.weight, values[0])
                take(norm.bias, values[1])
        take(network.last_norm.weight, arrays["last_norm"][0])
        take(network.last_norm.bias, arrays["last_norm"][1])
        for table, values in zip(network.wide_films, arrays["wide_films"], strict=True):
            take(table, values)
        return network


def by_lag(values: Tensor, ahead: float) -> Tensor:
    """[..., films] values per lag as [..., films, films]: row minus column is the lag."""
    count = values.shape[-1]
    line = functional.pad(values.flip(-1), (0, count - 1), value=ahead)
    return line.unfold(-1, count, 1).flip(-2)


class LigrOnDevice:
    """What `Forward` is, in PyTorch: for a GPU, or to check the one by the other."""

    def __init__(
        self, shape: Shape, weights: Mapping[str, NDArray[Any]], device: str | None = None
    ) -> None:
        self.shape, self._device = shape, choose_device(device)
        self._network = Ligr.from_arrays(shape, weights).to(self._device).eval()

    def states(
        self, histories: Sequence[History], times: Sequence[IntArray] | None = None
    ) -> FloatArray:
        """The state after each history."""
        timed = times is not None and self.shape.gaps > 0
        parts = []
        for start in range(0, len(histories), _HISTORIES_AT_ONCE):
            some = slice(start, start + _HISTORIES_AT_ONCE)
            parts.append(self._states(histories[some], times[some] if timed and times else None))
        return np.concatenate(parts)

    def _states(self, histories: Sequence[History], times: Sequence[IntArray] | None) -> FloatArray:
        ends = torch.tensor([min(len(of), self.shape.length) - 1 for of in histories])
        items = torch.from_numpy(self._padded(histories)).to(self._device)
        gaps = None
        if times is not None:
            at = self._padded(times)
            gaps = torch.from_numpy(buckets(at, at)).to(self._device)
        with torch.inference_mode():
            every = self._network(items, gaps=gaps)
            return _array(every[torch.arange(len(ends)), ends])

    def _padded(self, rows: Sequence[NDArray[Any]]) -> IntArray:
        """The rows' ends, [rows, longest], padded on the right."""
        longest = min(max(map(len, rows)), self.shape.length)
        made = np.zeros((len(rows), longest), np.int64)
        for place, row in enumerate(rows):
            end = row[-longest:]
            made[place, : len(end)] = end
        return made

    def logits(self, states: FloatArray) -> FloatArray:
        """Scores [states, films]."""
        with torch.inference_mode():
            return _array(self._network.score(torch.from_numpy(states).to(self._device)))

    def states_without(
        self, history: History, latest: int, times: IntArray | None = None
    ) -> FloatArray:
        """The states when one of the `latest` films is taken out, the oldest of them first."""
        places = range(len(history) - latest, len(history))
        at = [np.delete(times, place) for place in places] if times is not None else None
        return self.states([np.delete(history, place) for place in places], at)


def _array(tensor: Tensor) -> FloatArray:
    array: FloatArray = tensor.detach().cpu().numpy()
    return array
