"""A self-attentive network (LiGR blocks) that reads a history and ranks the next film.

Trained in PyTorch, served in NumPy; see `networks`. Recommendation by self-attention is SASRec
(Kang & McAuley 2018); the blocks and the training are later ones.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import asdict, replace
from typing import Any, ClassVar, Protocol, Self

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
from movie_mlops.models.algorithms.networks import network_module
from movie_mlops.models.algorithms.networks.forward import Forward, History, Shape
from movie_mlops.models.algorithms.networks.gaps import BUCKETS, buckets
from movie_mlops.models.algorithms.networks.modelled import Modelled
from movie_mlops.models.algorithms.pieces import cut, jittered
from movie_mlops.models.algorithms.popularity import interaction_shares

LARGE = 500_000  # interactions from which on the recipe is followed to the letter
MEDIUM = 50_000  # ... the network has its full width
STEPS, MOST_EPOCHS = 2_000, 30  # of training on fewer interactions
LATEST = 8  # films whose contribution is computed
JITTER_PLACES = 3.0
PRIOR_FILMS = 3.0
_HEAD = 32


class Network(Protocol):
    """What the model asks of its network, in NumPy or on a device."""

    shape: Shape

    def states(
        self, histories: Sequence[History], times: Sequence[IntArray] | None = None
    ) -> FloatArray:
        """[histories, dim]."""

    def logits(self, states: FloatArray) -> FloatArray:
        """[states, films]."""

    def states_without(
        self, history: History, latest: int, times: IntArray | None = None
    ) -> FloatArray:
        """[latest, dim]."""


class Sasrec:
    """Score of film j = state of the history . vector of film j + bias of j, and a prior.

    The state is the network's after the last `length` films. Left out, `dim` and `epochs` follow
    the amount of data: 128 and 5 (18 with the `wide` branch) from 500,000 interactions on, more
    passes and at last a narrower network below. `jitter` is the share of users whose order is
    blurred in an epoch. `time_bias` lets attention know the time between two acts, where the
    histories have times that differ; off, as validation shows no clear gain from it
    (benchmarks/time_bias.py). `device` None takes a GPU when there is one; one of `threads` on the
    processor gives the same bytes for the same seed.
    """

    name: ClassVar[str] = "sasrec"

    def __init__(  # noqa: PLR0913 (hyperparameters, each by name)
        self,
        dim: int | None = None,
        epochs: int | None = None,
        *,
        wide: bool = False,
        blocks: int = 2,
        length: int = 128,
        dropout: float = 0.25,
        negatives: int = 1_024,
        tokens: int = 2_560,
        jitter: float = 0.0,
        time_bias: bool = False,
        device: str | None = None,
        threads: int = 1,
    ) -> None:
        self._parameters: dict[str, Any] = {
            "dim": dim,
            "epochs": epochs,
            "wide": wide,
            "blocks": blocks,
            "length": length,
            "dropout": dropout,
            "negatives": negatives,
            "tokens": tokens,
            "jitter": jitter,
            "time_bias": time_bias,
            "device": device,
            "threads": threads,
        }
        self.progress: Progress | None = None
        self.movie_ids: IntArray = np.empty(0, np.int64)
        self._without: tuple[bytes, FloatArray] = (b"", np.empty((0, 0), np.float32))

    @property
    def reads_times(self) -> bool:
        """Whether the times of the acts change the scores."""
        return self.shape.gaps > 0

    def fit(self, histories: TrainingHistories, seed: int = 0) -> Self:
        """Train; needs PyTorch.

        Raises:
            TrainingDataError: no interaction at all.
            ConfigurationError: PyTorch is not installed, or there is no such device.
        """
        shares = interaction_shares(histories)
        modelled = Modelled.of(histories.movie_ids, shares, PRIOR_FILMS)
        known = replace(histories, items=modelled.rows[histories.items].astype(np.int32))
        training = network_module("ligr_training")
        shape, plan = self._sized(len(histories.items), training.Plan)
        if self._parameters["time_bias"] and _times_differ(histories):
            shape = replace(shape, gaps=BUCKETS)
        can_learn = len(modelled) > 1 and bool((np.diff(histories.indptr) > 1).any())
        plan = plan if can_learn else replace(plan, epochs=0)

        def epoch_of(rng: np.random.Generator) -> tuple[int, Iterator[Any]]:
            order = np.arange(len(known.items), dtype=np.int32)
            if self._parameters["jitter"]:
                places = replace(known, items=order)
                order = jittered(places, self._parameters["jitter"], JITTER_PLACES, rng)
            pieces = cut(known, order, shape.length, rng)
            batches = pieces.batches(self._parameters["tokens"], rng)
            return len(batches), (batch_of(*pieces.padded(batch)) for batch in batches)

        def batch_of(inputs: Any, targets: Any, real: Any) -> tuple[Any, ...]:
            at = known.times[inputs] if shape.gaps and known.times is not None else None
            gaps = buckets(at, at) if at is not None else None
            return known.items[inputs], known.items[targets], real, gaps

        def report(text: str, done: int, total: int | None) -> None:
            if self.progress is not None:
                self.progress(text, done, total)

        trained = training.train(len(modelled), shape, epoch_of, plan, seed, report)
        self._set(modelled, shape, trained.to_arrays())
        return self

    def _sized(self, interactions: int, plan_class: Any) -> tuple[Shape, Any]:
        """Shape and plan; what is not given follows the amount of data."""
        given = self._parameters
        dim = given["dim"] or (128 if interactions >= MEDIUM else 64)
        epochs = given["epochs"]
        if not epochs and interactions >= LARGE:
            epochs = 18 if given["wide"] else 5
        elif not epochs:
            epochs = min(round(STEPS * given["tokens"] / max(interactions, 1)), MOST_EPOCHS)
        heads = max(dim // _HEAD, 1)
        shape = Shape(dim, given["blocks"], heads, given["length"], 2 * dim, given["wide"])
        names = ("dropout", "negatives", "device", "threads")
        return shape, plan_class(epochs=epochs, **{name: given[name] for name in names})

    def _set(self, modelled: Modelled, shape: Shape, weights: Mapping[str, NDArray[Any]]) -> None:
        self.modelled, self.shape, self.weights = modelled, shape, weights
        self.movie_ids = modelled.movie_ids
        self.network: Network = Forward(shape, weights)

    def running_on(self, network: Network) -> Self:
        """The same model with its network on another device."""
        model = copy(self)
        model.network = network
        return model

    def score(
        self, histories: Sequence[History], times: Sequence[IntArray] | None = None
    ) -> FloatArray:
        """See TimedScorer; films that nobody watched come last.

        The last act's own time is what the others' are compared with, not the time of asking.
        """
        known = [self.modelled.known(history) for history in histories]
        scores = self.modelled.baseline(np.array([len(rows) for rows in known], np.int64))
        some = [row for row, history in enumerate(known) if len(history)]
        if some:
            at = None
            if self.reads_times and times is not None:
                at = [self._known_times(histories[row], times[row]) for row in some]
            states = self.network.states([known[row] for row in some], at)
            scores[some] += self.network.logits(states)
        return self.modelled.spread(scores)

    def _known_times(self, history: History, times: IntArray) -> IntArray:
        """The times of the acts with films that the network knows."""
        return times[self.modelled.rows[np.asarray(history, np.int64)] >= 0]

    def contributions(
        self, history: History, item: int, times: IntArray | None = None
    ) -> FloatArray:
        """What the score loses without each of the latest films; older ones are left at nothing.

        So is everything for a film that nobody watched in training.
        """
        found = np.zeros(len(history), np.float32)
        rows = self.modelled.rows
        places = np.flatnonzero(rows[np.asarray(history, np.int64)] >= 0)[-LATEST:]
        if rows[item] >= 0 and len(places):
            known = self.modelled.known(history)
            at = None
            if self.reads_times and times is not None:
                at = self._known_times(history, times)
            found[places] = self._losses(known, len(places), at)[:, rows[item]]
        return found

    def _losses(self, known: IntArray, latest: int, times: IntArray | None) -> FloatArray:
        """What all scores lose without each of the latest films [latest, modelled films].

        Kept for the history asked last: a list asks for the reasons of all its films in a row.
        """
        key = known.tobytes() + (times.tobytes() if times is not None else b"")
        kept, losses = self._without
        if kept == key:
            return losses
        baseline = self.modelled.baseline
        losses = np.tile(baseline(len(known)) - baseline(len(known) - 1), (latest, 1))
        at = [times] if times is not None else None
        losses += self.network.logits(self.network.states([known], at))
        if len(known) > 1:
            losses -= self.network.logits(self.network.states_without(known, latest, times))
        self._without = key, losses
        return losses

    def similar(self, item: int) -> FloatArray:
        """Cosine of the films' vectors; films that nobody watched come last."""
        return self.modelled.cosines(np.asarray(self.weights["films"]), item)

    def artifact(self) -> tuple[Arrays, Card]:
        """The network's weights, the prior, the vocabulary; the card holds all parameters."""
        arrays: Arrays = {
            "movie_ids": self.movie_ids,
            "modelled": self.modelled.films,
            "prior": self.modelled.prior,
            **self.weights,
        }
        card = {
            "algorithm": self.name,
            "parameters": self._parameters,
            "shape": asdict(self.shape),
            "films": len(self.movie_ids),
            "modelled_films": len(self.modelled),
            "network_parameters": sum(array.size for array in self.weights.values()),
        }
        return arrays, card

    @classmethod
    def from_artifact(cls, arrays: Mapping[str, NDArray[Any]], card: Card) -> Self:
        """Rebuild; the arrays may stay on disk as memory maps."""
        with reading_card(cls.name):
            model = cls(**card["parameters"])
            shape = Shape(**card["shape"])
        movie_ids = checked(arrays, "movie_ids", (None,))
        films = checked_positions(arrays, "modelled", (None,), len(movie_ids))
        prior = checked(arrays, "prior", (len(films),))
        shapes = shape.arrays(len(films))
        weights = {name: checked(arrays, name, of) for name, of in shapes.items()}
        model._set(Modelled(movie_ids, films, prior, PRIOR_FILMS), shape, weights)
        return model


def _times_differ(histories: TrainingHistories) -> bool:
    """Whether any history has acts of more than one moment."""
    if histories.times is None or not len(histories.items):
        return False
    owners = np.repeat(np.arange(histories.user_count), np.diff(histories.indptr))
    return bool((np.diff(histories.times)[owners[1:] == owners[:-1]] != 0).any())
