"""Low-rank maps from the films watched last to the next one, learned with a softmax loss.

The state is a sum over watched films, the logit a product with it: everything is linear, so
every score is a sum over watched films as well. NumPy only, with gradients by hand.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from movie_mlops.models.algorithms.artifacts import checked, checked_positions, reading_card
from movie_mlops.models.algorithms.base import (
    Arrays,
    Card,
    FloatArray,
    IntArray,
    Progress,
    TrainingHistories,
)
from movie_mlops.models.algorithms.lag_softmax import SCALE, AdamW, Dropout, LagSoftmax
from movie_mlops.models.algorithms.pieces import among, cut, jittered
from movie_mlops.models.algorithms.popularity import interaction_shares, without

MUCH_DATA = 500_000
"""Interactions from which the settings are those found on MovieLens-1M; fewer: see `Schedule`."""
JITTER_SHARE, JITTER_SPREAD = 0.4, 3.0
TOKENS, NEGATIVES = 2_560, 512
RATE, WARM_UP, LAST_RATE = 6e-3, 200, 0.02
UNTRAINED = 10.0  # how far below the lowest bias a film without trained weights stands
RESERVED_MB = 256.0  # of the training memory: interpreter, libraries, histories
_TRAINING_COPIES = 6  # parameters, two moments, slope, and room for temporaries


@dataclass(frozen=True, slots=True)
class Schedule:
    """How to train on so much data: tokens per batch, passes, dropout of rows and of states.

    Chosen on near-last films of MovieLens-small (100,836 ratings): with the passes and dropout
    of a million interactions it learns too little and by heart (NDCG@10 .058 in place of .077).
    """

    tokens: int
    epochs: int
    least_steps: int
    drop_rows: float
    drop_states: float

    @classmethod
    def of(cls, interactions: int) -> Self:
        """From the recipe at `MUCH_DATA` smoothly to more passes and dropout at a fifth of it."""
        small = math.log(MUCH_DATA / max(interactions, 1)) / math.log(5)
        small = min(max(small, 0.0), 1.0)
        return cls(
            tokens=min(max(interactions // 40, 256), TOKENS),
            epochs=round(4 * 5**small),
            least_steps=400,
            drop_rows=0.2 + 0.3 * small,
            drop_states=0.1 + 0.2 * small,
        )


class LinearSoftmax:
    """Score of film j = state . out[j] + bias[j], state = sum over the last watched films.

    state = sum over lags l and heads k of lag_weights[l, k] tables[film l places ago, k].
    Trained by softmax against shared uniform negatives on histories whose order is blurred for
    some users, so that the model does not live on the exact order (see `pieces.jittered`).
    `epochs` None: by the amount of data, see `Schedule`. The films with most interactions are
    modelled as far as `max_memory_mb` (served) and `training_memory_mb` reach; the others, and
    those without any interaction, have the prior only; the card says how many.
    """

    name: ClassVar[str] = "linear_softmax"

    def __init__(
        self,
        dim: int = 128,
        heads: int = 3,
        length: int = 64,
        epochs: int | None = None,
        max_memory_mb: float = 256.0,
        training_memory_mb: float = 1_536.0,
    ) -> None:
        self._parameters: dict[str, Any] = {
            "dim": dim,
            "heads": heads,
            "length": length,
            "epochs": epochs,
            "max_memory_mb": max_memory_mb,
            "training_memory_mb": training_memory_mb,
        }
        self.progress: Progress | None = None
        self._set(
            np.empty(0, np.int64),
            np.empty(0, np.int32),
            {
                "tables": np.empty((0, heads, dim), np.float32),
                "out": np.empty((0, dim), np.float32),
                "lag_weights": np.empty((length, heads), np.float32),
                "bias": np.empty(0, np.float32),
                "prior": np.empty(0, np.float32),
            },
        )

    def _set(self, movie_ids: IntArray, modelled: NDArray[np.int32], weights: Arrays) -> None:
        self.movie_ids, self.modelled = movie_ids, np.asarray(modelled)
        # No memmap subclass: its bookkeeping costs more than the sums
        self.tables, self.out = np.asarray(weights["tables"]), np.asarray(weights["out"])
        self.lag_weights = np.asarray(weights["lag_weights"])
        self.bias, self.prior = np.asarray(weights["bias"]), np.asarray(weights["prior"])
        self._rows = np.full(len(movie_ids), -1, np.int64)
        self._rows[self.modelled] = np.arange(len(self.modelled))
        self._places = self.modelled.astype(np.intp)  # what NumPy indexes with
        self._all = len(self.modelled) == len(movie_ids)

    def fit(self, histories: TrainingHistories, seed: int = 0) -> Self:
        """Train on one BLAS thread, so that the bytes are always the same."""
        # threadpoolctl is needed for training only
        from threadpoolctl import threadpool_limits  # noqa: PLC0415

        interaction_shares(histories)  # refuses what has no interaction
        counts = histories.counts()
        prior = np.log(counts + 1.0).astype(np.float32)
        prior -= prior.max()
        dim = int(self._parameters["dim"])
        modelled = self._most_watched(counts, dim)
        rng = np.random.default_rng(seed)
        heads, length = int(self._parameters["heads"]), int(self._parameters["length"])
        network = LagSoftmax(len(modelled), dim, heads, length, rng)
        with threadpool_limits(limits=1, user_api="blas"):
            self._train(network, among(histories, modelled), rng)
        bias = (prior + network.view("bias").min() - UNTRAINED).astype(np.float32)
        bias[modelled] = network.view("bias")
        scale = SCALE * np.exp(network.view("gain")[0])
        weights = {
            "tables": network.view("tables").copy(),
            "out": network.view("out").copy(),
            "lag_weights": np.ascontiguousarray(scale * np.exp(network.view("lags").T), np.float32),
            "bias": bias,
            "prior": prior,
        }
        self._set(histories.movie_ids, modelled, weights)
        return self

    def _most_watched(self, counts: IntArray, dim: int) -> NDArray[np.int32]:
        given = self._parameters
        film = 4 * (given["heads"] + 1) * dim  # bytes
        most = min(
            given["max_memory_mb"] * 2**20 / film,
            max(given["training_memory_mb"] - RESERVED_MB, 16) * 2**20 / (_TRAINING_COPIES * film),
        )
        chosen = np.argsort(-counts, kind="stable")[: int(most)]
        return np.sort(chosen[counts[chosen] > 0]).astype(np.int32)

    def _train(
        self, network: LagSoftmax, histories: TrainingHistories, rng: np.random.Generator
    ) -> None:
        schedule = Schedule.of(len(histories.items))
        films, _, dim = network.view("tables").shape
        shared = min(NEGATIVES, films)
        correction = math.log((films - 1) / min(shared, films - 1)) if films > 1 else 0.0
        optimiser = AdamW(network.flat)
        most = max(schedule.tokens, network.view("lags").shape[1])  # places of a batch
        drop_rows = Dropout(schedule.drop_rows, most * network.row_width, rng)
        drop_states = Dropout(schedule.drop_states, most * dim, rng)
        epochs = self._parameters["epochs"]
        done = epoch = total = 0
        while not epoch or epoch < epochs:
            items = jittered(histories, JITTER_SHARE, JITTER_SPREAD, rng)
            pieces = cut(histories, items, network.view("lags").shape[1], rng)
            batches = pieces.batches(schedule.tokens, rng)
            if not batches:
                return  # nobody watched two films
            epochs = epochs or max(schedule.epochs, -(-schedule.least_steps // len(batches)))
            total = total or epochs * len(batches)
            loss = 0.0
            for chosen in batches:
                batch = pieces.padded(chosen)
                keep = (
                    drop_rows.factors(batch[0].size, network.row_width),
                    drop_states.factors(int(batch[2].sum()), dim),
                )
                negatives = rng.choice(films, shared, replace=False, shuffle=False)
                of_batch, slope = network.gradients(batch, negatives, correction, keep)
                done += 1
                optimiser.step(slope, _rate(done, total))
                loss += of_batch / len(batches)
            epoch += 1
            if self.progress is not None:
                self.progress(f"epoch {epoch} of {epochs}, loss {loss:.2f}", epoch, epochs)

    def baseline(self, length: int | IntArray) -> FloatArray:
        """What is there without the films: learned biases; popularity where there is no history."""
        some = np.asarray(length)[..., None] > 0
        scores: FloatArray = np.where(some, self.bias, self.prior)
        return scores

    def score(self, histories: Sequence[NDArray[np.integer[Any]]]) -> FloatArray:
        """One state per history, then one product for all."""
        scores: FloatArray = np.array([self.bias if len(one) else self.prior for one in histories])
        products = np.array([self._state(history) for history in histories]) @ self.out.T
        if self._all:
            scores += products
        else:
            for row, product in zip(scores, products, strict=True):  # one by one: a fast index
                product += row.take(self._places, mode="clip")
                row[self._places] = product
        return scores

    def _state(self, history: NDArray[np.integer[Any]]) -> FloatArray:
        rows = self._rows[np.asarray(history)[::-1]]
        rows = rows[rows >= 0][: len(self.lag_weights)]
        weights = self.lag_weights[: len(rows)].reshape(-1)
        state: FloatArray = weights @ self.tables[rows].reshape(-1, self.out.shape[1])
        return state

    def contributions(self, history: NDArray[np.integer[Any]], item: int) -> FloatArray:
        """Exact: their sum plus `baseline(len(history))[item]` is the score of the film."""
        row: FloatArray = self.contributions_of(history, np.array([item]))[0]
        return row

    def contributions_of(
        self, history: NDArray[np.integer[Any]], items: NDArray[np.integer[Any]]
    ) -> FloatArray:
        """The same for several films at once, shape [items, len(history)]."""
        found = np.zeros((len(items), len(history)), np.float32)
        columns, rows = self._rows[items], self._rows[np.asarray(history)]
        modelled = np.flatnonzero(columns >= 0)
        known = np.flatnonzero(rows >= 0)[::-1][: len(self.lag_weights)]
        weights = self.lag_weights[: len(known), None]  # [films, 1, heads]
        states = (weights @ self.tables[rows[known]])[:, 0]
        found[modelled[:, None], known] = self.out[columns[modelled]] @ states.T
        return found

    def similar(self, item: int) -> FloatArray:
        """Cosine of what the films are as targets; the films not modelled come last."""
        scores = (self.prior / max(-float(self.prior.min()), 1e-12) - 2).astype(np.float32)
        row = int(self._rows[item])
        if row >= 0:
            norms = np.maximum(np.linalg.norm(self.out, axis=1), 1e-9)
            scores[self.modelled] = (self.out @ self.out[row]) / (norms * norms[row])
        return without(scores, item)

    def artifact(self) -> tuple[Arrays, Card]:
        """Tables, biases, prior, vocabulary; the card holds all parameters."""
        arrays: Arrays = {
            "movie_ids": self.movie_ids,
            "modelled": self.modelled,
            "tables": self.tables,
            "out": self.out,
            "lag_weights": self.lag_weights,
            "bias": self.bias,
            "prior": self.prior,
        }
        sizes = {
            "films": len(self.movie_ids),
            "modelled_films": len(self.modelled),
        }
        return arrays, {"algorithm": self.name, "parameters": self._parameters, **sizes}

    @classmethod
    def from_artifact(cls, arrays: Mapping[str, NDArray[Any]], card: Card) -> Self:
        """Rebuild; the tables may stay on disk as memory maps."""
        with reading_card(cls.name):
            model = cls(**card["parameters"])
            dim, heads, length = (int(model._parameters[key]) for key in ("dim", "heads", "length"))
        movie_ids = checked(arrays, "movie_ids", (None,))
        films = len(movie_ids)
        modelled = checked_positions(arrays, "modelled", (None,), films)
        size = len(modelled)
        shapes = {
            "tables": (size, heads, dim),
            "out": (size, dim),
            "lag_weights": (length, heads),
            "bias": (films,),
            "prior": (films,),
        }
        model._set(
            movie_ids, modelled, {key: checked(arrays, key, shape) for key, shape in shapes.items()}
        )
        return model


def _rate(step: int, steps: int) -> float:
    """Warm-up, then half a cosine down to `LAST_RATE` of `RATE`."""
    warm = min(1.0, step / min(WARM_UP, max(steps // 4, 1)))
    cosine = (1 + math.cos(math.pi * min(step / steps, 1.0))) / 2
    return RATE * warm * (LAST_RATE + (1 - LAST_RATE) * cosine)
