"""Histories cut into padded pieces for models that learn from order, batch by batch."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from movie_mlops.models.algorithms.base import IntArray, TrainingHistories

_LENGTH_NOISE = 8.0  # batches of like lengths, yet not always of the same pieces


@dataclass(frozen=True, slots=True)
class Pieces:
    """Runs of a flat list of films: piece i is `items[starts[i]:starts[i] + lengths[i] + 1]`.

    `lengths` counts what is to be predicted: the first film of a piece is input only, the last
    one is target only.
    """

    items: NDArray[np.integer[Any]]
    starts: IntArray
    lengths: IntArray

    def batches(self, tokens: int, rng: np.random.Generator) -> list[IntArray]:
        """Piece numbers of each batch, at most `tokens` padded places each, shuffled.

        A batch holds pieces of like length; one piece that is longer is a batch of its own.
        """
        order = np.argsort(self.lengths + _LENGTH_NOISE * rng.random(len(self.lengths)))
        cuts, first, widest = [], 0, 0
        for place, length in enumerate(self.lengths[order].tolist()):
            widest = max(widest, length)
            if place > first and (place + 1 - first) * widest > tokens:
                cuts.append(place)
                first, widest = place, length
        made = np.split(order, cuts) if len(order) else []
        return [made[place] for place in rng.permutation(len(made))]

    def padded(self, chosen: IntArray) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
        """Inputs, targets and which places are real, each [pieces, longest]; padding is right.

        Padded places hold the last input and target again; leave them out of the loss.
        """
        lengths = self.lengths[chosen][:, None]
        steps = np.arange(int(lengths.max(initial=0)))
        places = self.starts[chosen][:, None] + np.minimum(steps, lengths - 1)
        return self.items[places], self.items[places + 1], steps < lengths


def cut(
    histories: TrainingHistories,
    items: NDArray[np.integer[Any]],
    length: int,
    rng: np.random.Generator,
) -> Pieces:
    """Cut every history into pieces that predict at most `length` films.

    Neighbouring pieces share one film, so each film but a history's first is predicted once. Half
    of the histories are cut from their end, the others at a random distance from it. `items` are
    the histories' own or in another order within each user.
    """
    steps = np.maximum(np.diff(histories.indptr) - 1, 0)
    some = np.flatnonzero(steps)
    starts, steps = histories.indptr[some], steps[some]
    last = rng.integers(1, length, len(some), endpoint=True)
    last = np.where(rng.random(len(some)) < 0.5, length, last)
    counts = 1 + np.maximum(-(-(steps - last) // length), 0)
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    last, starts, steps = (np.repeat(values, counts) for values in (last, starts, steps))
    far = last + number * length  # both ends as distances from the history's end
    near = np.maximum(far - length, 0)
    far = np.minimum(far, steps)
    return Pieces(items, starts + steps - far, far - near)


def jittered(
    histories: TrainingHistories, share: float, spread: float, rng: np.random.Generator
) -> NDArray[np.int32]:
    """The flat films, where a `share` of the users have their order blurred.

    Their films are sorted by place + U(0, spread): what lies further apart keeps its order.
    """
    lengths = np.diff(histories.indptr)
    blurred = np.repeat(rng.random(len(lengths)) < share, lengths)
    keys = np.arange(len(histories.items), dtype=np.float64)
    keys[blurred] += spread * rng.random(int(blurred.sum()))
    users = np.repeat(np.arange(len(lengths)), lengths)
    return histories.items[np.lexsort((keys, users))]


def among(histories: TrainingHistories, modelled: NDArray[np.int32]) -> TrainingHistories:
    """The same histories without the other films, positions counted among the modelled ones."""
    rows = np.full(histories.item_count, -1, np.int32)
    rows[modelled] = np.arange(len(modelled))
    items = rows[histories.items]
    before = np.concatenate([[0], np.cumsum(items >= 0)])
    return TrainingHistories(
        histories.movie_ids[modelled],
        histories.user_ids,
        before[histories.indptr],
        items[items >= 0],
    )
