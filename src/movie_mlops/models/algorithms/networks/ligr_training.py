"""Training of the LiGR network: softmax over shared negatives, two optimisers, cheap dropout.

As in eSASRec (arXiv 2508.06450) histories are shifted by one film; Muon (Jordan 2024) steps the
blocks' matrices, AdamW everything else.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import cos, log, pi
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from movie_mlops.models.algorithms.base import Progress
from movie_mlops.models.algorithms.networks.devices import choose_device, computing_on
from movie_mlops.models.algorithms.networks.forward import Shape
from movie_mlops.models.algorithms.networks.ligr import BLOCK_MATRICES, Ligr

Batch = tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_], NDArray[Any] | None]
"""Inputs, targets and which places are real, each [pieces, longest], padded on the right.

And where time is read the buckets of the time between the inputs, [pieces, longest, longest].
"""
Epoch = Callable[[np.random.Generator], tuple[int, Iterator[Batch]]]
"""How many batches one pass over the histories has, and the batches."""

_MASKS, _MASK_USES = 1 << 22, 2_000
_LEAST_RATE = 0.02


@dataclass(frozen=True, slots=True)
class Plan:
    """How a network is trained.

    Rates are those of Muon, of AdamW, and of AdamW for the gaps, at their highest.
    """

    epochs: int = 5
    negatives: int = 1_024
    dropout: float = 0.25
    wide_dropout: float = 0.5
    muon_rate: float = 0.01
    rate: float = 2e-3
    gap_rate: float = 1e-2
    warm_up: int = 200
    threads: int = 1
    device: str | None = None


class Masks:
    """Dropout by slices of one buffer of zeros and 1 / (1 - rate): far cheaper than drawing."""

    def __init__(self, rate: float, device: torch.device, seed: int) -> None:
        self._rate, self._device = rate, device
        self._offsets = np.random.default_rng(seed)
        self._generator = torch.Generator(device).manual_seed(seed)
        self._buffer = torch.empty(0, device=device)
        self._left = 0

    def __call__(self, x: Tensor) -> Tensor:
        """The same values with a share of them at zero, the others larger."""
        if not self._rate:
            return x
        size = x.numel()
        if not self._left or 2 * size > len(self._buffer):
            drawn = torch.rand(
                max(_MASKS, 2 * size), generator=self._generator, device=self._device
            )
            self._buffer = (drawn >= self._rate).to(x.dtype) / (1 - self._rate)
            self._left = _MASK_USES
        self._left -= 1
        start = int(self._offsets.integers(len(self._buffer) - size + 1))
        return x * self._buffer[start : start + size].view_as(x)


def train(
    films: int, shape: Shape, epoch_of: Epoch, plan: Plan, seed: int, progress: Progress
) -> Ligr:
    """A new network, trained; the mean loss of every epoch goes to `progress`."""
    device = choose_device(plan.device)
    rng = np.random.default_rng(seed)
    with computing_on(device, plan.threads):
        network = Ligr(films, shape, seed).to(device)
        step = _Step(network, plan, device, seed)
        for epoch in range(1, plan.epochs + 1):
            count, batches = epoch_of(rng)
            step.total = max(step.total, plan.epochs * count)
            losses = torch.stack([step(*batch, rng) for batch in batches])
            text = f"epoch {epoch} of {plan.epochs}, loss {losses.mean().item():.4f}"
            progress(text, epoch, plan.epochs)
    trained: Ligr = network.cpu()
    return trained


class _Step:
    """One step of both optimisers on a batch."""

    def __init__(self, network: Ligr, plan: Plan, device: torch.device, seed: int) -> None:
        self._network, self._plan, self._device = network, plan, device
        matrices = [getattr(block, name) for block in network.blocks for name in BLOCK_MATRICES]
        gaps = [block.gaps for block in network.blocks]
        known = {id(of) for of in (*matrices, *gaps)}
        others = [of for of in network.parameters() if id(of) not in known]
        muon = torch.optim.Muon(matrices, lr=plan.muon_rate, weight_decay=0.0)
        groups = [{"params": others, "lr": plan.rate}, {"params": gaps, "lr": plan.gap_rate}]
        adam = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
        self._optimisers = (muon, adam)
        self._rates = [(group, group["lr"]) for of in self._optimisers for group in of.param_groups]
        self._drop = Masks(plan.dropout, device, seed)
        self._drop_wide = Masks(plan.wide_dropout, device, seed + 1)
        self._done = 0
        self.total = 0

    def __call__(
        self,
        inputs: NDArray[Any],
        targets: NDArray[Any],
        real: NDArray[np.bool_],
        gaps: NDArray[Any] | None,
        rng: np.random.Generator,
    ) -> Tensor:
        films = len(self._network.films)
        drawn = rng.choice(films, min(self._plan.negatives, films - 1), replace=False)
        batch = (
            torch.from_numpy(of) for of in (inputs, targets[real].astype(np.int64), real, drawn)
        )
        items, wanted, places, negatives = (of.to(self._device) for of in batch)
        factor = self._factor()
        for group, rate in self._rates:
            group["lr"] = rate * factor
        for optimiser in self._optimisers:
            optimiser.zero_grad(set_to_none=True)
        apart = torch.from_numpy(gaps).to(self._device) if gaps is not None else None
        states = self._network(items, self._drop, self._drop_wide, apart)[places]
        loss = self._loss(states, wanted, negatives)
        loss.backward()
        for optimiser in self._optimisers:
            optimiser.step()
        self._done += 1
        return loss.detach()

    def _loss(self, states: Tensor, wanted: Tensor, negatives: Tensor) -> Tensor:
        """Softmax over the film and shared negatives, which stand for all other films."""
        network, count = self._network, len(negatives)
        correction = log((len(network.films) - 1) / count)
        # the last column is a place for the film itself: no copy of all logits to append it
        drawn = functional.pad(negatives, (0, 1))
        vectors = functional.embedding(drawn, network.films)
        logits = functional.linear(states, vectors, network.film_bias[drawn] + correction)
        column = torch.full((len(network.films),), -1, device=negatives.device)
        column[negatives] = torch.arange(count, device=negatives.device)
        among = column[wanted]
        rows = (among >= 0).nonzero()[:, 0]
        logits[rows, among[rows]] = -1e9  # drawn as its own negative
        own = (states * functional.embedding(wanted, network.films)).sum(-1)
        logits[:, count] = own + network.film_bias[wanted]
        return functional.cross_entropy(logits, torch.full_like(wanted, count))

    def _factor(self) -> float:
        """Of both rates: a warm-up, then half a cosine."""
        warm = min(1.0, (self._done + 1) / min(self._plan.warm_up, max(self.total // 5, 1)))
        wave = (1 + cos(pi * min(self._done / max(self.total, 1), 1.0))) / 2
        return warm * (_LEAST_RATE + (1 - _LEAST_RATE) * wave)
