"""The guide's network in NumPy, softmax cross-entropy with Adam, and the recommender made of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from movie_mlops.domain.errors import TrainingDataError
from movie_mlops.models.algorithms.artifacts import checked
from movie_mlops.models.algorithms.base import (
    Arrays,
    Card,
    FloatArray,
    IntArray,
    TrainingHistories,
)

SEED = 42
FEATURES = ("rating", "popularity", "watch_seconds")
FEWEST_UPDATES, BATCH, MOST_PLACES, LAGS = 800, 512, 50_000, 40
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


class MoviePredictor:
    """Features [rows, input_dim] to probabilities of classes [rows, num_classes]."""

    def __init__(
        self,
        input_dim: int,
        num_classes: int,
        hidden_dim: int = 64,
        learning_rate: float = 0.01,
        seed: int = SEED,
    ) -> None:
        rng = np.random.default_rng(seed)
        self.input_dim, self.num_classes, self.hidden_dim = input_dim, num_classes, hidden_dim
        self.learning_rate = learning_rate
        self.parameters: dict[str, FloatArray] = {
            "w1": _normal(rng, (input_dim, hidden_dim), np.sqrt(2 / input_dim)),
            "b1": np.zeros(hidden_dim, np.float32),
            "w2": _normal(rng, (hidden_dim, num_classes), np.sqrt(1 / hidden_dim)),
            "b2": np.zeros(num_classes, np.float32),
        }
        self._moments = {
            key: (np.zeros_like(w), np.zeros_like(w)) for key, w in self.parameters.items()
        }
        self._step = 0

    def logits(self, features: NDArray[Any]) -> FloatArray:
        """Scores before the softmax, shape [rows, num_classes]."""
        weights = self.parameters
        hidden = np.maximum(features @ weights["w1"] + weights["b1"], 0)
        scores: FloatArray = hidden @ weights["w2"] + weights["b2"]
        return scores

    def forward(self, features: NDArray[Any]) -> FloatArray:
        """Probabilities; rows sum to 1."""
        return _softmax(self.logits(np.asarray(features, np.float32)))

    def loss(self, features: NDArray[Any], labels: NDArray[Any]) -> float:
        """Mean cross-entropy in nats."""
        chosen = self.forward(features)[np.arange(len(labels)), labels]
        return float(-np.log(np.maximum(chosen, 1e-12)).mean())

    def gradients(
        self, features: NDArray[Any], labels: NDArray[Any]
    ) -> tuple[float, dict[str, FloatArray]]:
        """Mean cross-entropy of a batch and its gradient by parameter."""
        weights = self.parameters
        before = features @ weights["w1"] + weights["b1"]
        hidden = np.maximum(before, 0)
        slope = _softmax(hidden @ weights["w2"] + weights["b2"])
        rows = np.arange(len(labels))
        loss = float(-np.log(np.maximum(slope[rows, labels], 1e-12)).mean())
        slope[rows, labels] -= 1
        slope /= len(labels)
        back = (slope @ weights["w2"].T) * (before > 0)
        found = {"w1": features.T @ back, "b1": back.sum(axis=0)}
        found |= {"w2": hidden.T @ slope, "b2": slope.sum(axis=0)}
        return loss, found

    def update(self, features: NDArray[Any], labels: NDArray[Any]) -> float:
        """One step of Adam (Kingma & Ba 2015) on a batch; returns the loss before it."""
        loss, found = self.gradients(np.asarray(features, np.float32), labels)
        self._step += 1
        scale = self.learning_rate * np.sqrt(1 - _BETA2**self._step) / (1 - _BETA1**self._step)
        for key, gradient in found.items():
            mean, square = self._moments[key]
            mean += (1 - _BETA1) * (gradient - mean)
            square += (1 - _BETA2) * (gradient**2 - square)
            self.parameters[key] -= (scale * mean / (np.sqrt(square) + _EPSILON)).astype(np.float32)
        return loss


@dataclass(frozen=True, slots=True)
class WatchLogDataset:
    """Standardised features [rows, 3] and labels: the film's place among the log's films."""

    features: FloatArray
    labels: IntArray
    content_ids: IntArray

    @property
    def features_dim(self) -> int:
        """Number of features."""
        return int(self.features.shape[1])

    @property
    def num_classes(self) -> int:
        """Number of films."""
        return len(self.content_ids)


class SimpleDataLoader:
    """Batches in an order that each pass shuffles anew."""

    def __init__(
        self, features: NDArray[Any], labels: NDArray[Any], batch_size: int = 32, seed: int = SEED
    ) -> None:
        self.features, self.labels, self.batch_size = features, labels, batch_size
        self._rng = np.random.default_rng(seed)

    def __iter__(self) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        order = self._rng.permutation(len(self.labels))
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            yield self.features[chosen], self.labels[chosen]

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)


def train(model: MoviePredictor, loader: SimpleDataLoader) -> float:
    """One pass over the loader; the mean loss of its batches."""
    return float(np.mean([model.update(features, labels) for features, labels in loader]))


def init_seed(seed: int = SEED) -> None:
    """Seed NumPy's global generator, as the guide's scripts expect; this house does not use it."""
    np.random.seed(seed)  # noqa: NPY002 (this is what the function is for)


def split_watch_log(
    features: NDArray[np.float64], content_ids: IntArray, seed: int = SEED
) -> tuple[WatchLogDataset, WatchLogDataset, WatchLogDataset]:
    """Training, validation and test set, 60/20/20; standardised with the training set's moments.

    Args:
        features: rows of rating, popularity, watch seconds.
        content_ids: the film of each row.
        seed: of the shuffle.

    Raises:
        TrainingDataError: fewer than ten rows.
    """
    if len(features) < 10:
        message = f"a watch log of {len(features)} rows is too short; at least 10 are needed"
        raise TrainingDataError(message)
    films, labels = np.unique(content_ids, return_inverse=True)
    scaled = np.column_stack([features[:, 0], np.log1p(features[:, 1]), features[:, 2]])
    order = np.random.default_rng(seed).permutation(len(scaled))
    cuts = (int(0.6 * len(order)), int(0.8 * len(order)))
    mean, spread = scaled[order[: cuts[0]]].mean(axis=0), scaled[order[: cuts[0]]].std(axis=0)
    scaled = ((scaled - mean) / np.maximum(spread, 1e-9)).astype(np.float32)
    train_set, validation, test = (
        WatchLogDataset(scaled[rows], labels[rows].astype(np.int64), films)
        for rows in np.split(order, cuts)
    )
    return train_set, validation, test


class NumpyMlp:
    """The network as a recommender: a decayed sum of random film codes in, the next film out."""

    name: ClassVar[str] = "numpy_mlp"

    def __init__(
        self,
        code_dim: int = 64,
        hidden_dim: int = 64,
        decay: float = 0.8,
        epochs: int = 4,
        max_memory_mb: int = 256,
    ) -> None:
        self.movie_ids: IntArray = np.empty(0, np.int64)
        self._settings = {
            "code_dim": code_dim,
            "hidden_dim": hidden_dim,
            "decay": decay,
            "epochs": epochs,
            "max_memory_mb": max_memory_mb,
        }

    def fit(self, histories: TrainingHistories, seed: int = 0) -> Self:
        """See Recommender; at most MOST_PLACES places a pass are learned from."""
        if not len(histories.items):
            message = "there is no interaction to learn from; collect data first"
            raise TrainingDataError(message)
        self.movie_ids = histories.movie_ids
        rng = np.random.default_rng(seed)
        dim = int(self._settings["code_dim"])
        self._codes = _normal(rng, (histories.item_count, dim), 1 / np.sqrt(dim))
        self._prior = np.log(histories.counts() + 1.0).astype(np.float32)
        self._prior -= self._prior.mean()
        network = MoviePredictor(
            dim, histories.item_count, int(self._settings["hidden_dim"]), 0.003, seed
        )
        network.parameters["b2"] = self._prior.copy()
        places = _places_with_past(histories)
        batches = -(-min(len(places), MOST_PLACES) // BATCH)
        passes = max(int(self._settings["epochs"]), FEWEST_UPDATES // max(batches, 1))
        for _ in range(passes):
            order = rng.permutation(len(places))[:MOST_PLACES]
            for start in range(0, len(order), BATCH):
                chosen = places[order[start : start + BATCH]]
                inputs = self._encode_places(histories.items, chosen)
                network.update(inputs, histories.items[chosen[:, 0]])
        self._network = network
        return self

    def score(self, histories: Sequence[NDArray[np.integer[Any]]]) -> FloatArray:
        """See Recommender."""
        inputs = np.stack([self._encode(history) for history in histories])
        scores: FloatArray = self._network.logits(inputs)
        empty = [not len(history) for history in histories]
        scores[empty] = self._prior
        return scores

    def contributions(self, history: NDArray[np.integer[Any]], item: int) -> FloatArray:
        """How much the score falls when one film is left out; not additive, the network bends."""
        if not len(history):
            return np.empty(0, np.float32)
        whole = self.score([history])[0, item]
        without = self.score([np.delete(history, place) for place in range(len(history))])
        found: FloatArray = whole - without[:, item]
        return found

    def similar(self, item: int) -> FloatArray:
        """Cosine of the films' output weights."""
        weights = self._network.parameters["w2"]
        norms = np.maximum(np.linalg.norm(weights, axis=0), 1e-9)
        found: FloatArray = (weights[:, item] @ weights / (norms * norms[item])).astype("f4")
        found[item] = -np.inf
        return found

    def artifact(self) -> tuple[Arrays, Card]:
        """See Recommender."""
        arrays = {"movie_ids": self.movie_ids, "codes": self._codes, "prior": self._prior}
        return arrays | self._network.parameters, {
            "algorithm": self.name,
            "parameters": dict(self._settings),
        }

    @classmethod
    def from_artifact(cls, arrays: Mapping[str, NDArray[Any]], card: Card) -> Self:
        """See Recommender."""
        model = cls(**card["parameters"])
        model.movie_ids = checked(arrays, "movie_ids", (None,))
        items = len(model.movie_ids)
        dim, hidden = int(model._settings["code_dim"]), int(model._settings["hidden_dim"])
        shapes = {"w1": (dim, hidden), "b1": (hidden,), "w2": (hidden, items), "b2": (items,)}
        model._codes = checked(arrays, "codes", (items, dim))
        model._prior = checked(arrays, "prior", (items,))
        model._network = MoviePredictor(dim, max(items, 1), hidden)
        model._network.parameters = {
            name: checked(arrays, name, shape) for name, shape in shapes.items()
        }
        return model

    def _encode(self, history: NDArray[np.integer[Any]]) -> FloatArray:
        recent = history[-LAGS:]
        weights = float(self._settings["decay"]) ** np.arange(len(recent))[::-1]
        encoded: FloatArray = (weights.astype(np.float32) @ self._codes[recent]).astype(np.float32)
        return encoded

    def _encode_places(self, items: NDArray[np.int32], places: IntArray) -> FloatArray:
        """What `_encode` gives for the films before each place; places [rows, 2]."""
        place, past = places[:, 0], places[:, 1]
        inputs = np.zeros((len(places), self._codes.shape[1]), np.float32)
        for lag in range(min(LAGS, int(past.max(initial=0)))):
            rows = np.flatnonzero(past > lag)
            weight = np.float32(float(self._settings["decay"]) ** lag)
            inputs[rows] += weight * self._codes[items[place[rows] - 1 - lag]]
        return inputs


def _places_with_past(histories: TrainingHistories) -> IntArray:
    """Every place of the flat items but the users' first, and how many films are before it."""
    starts = np.repeat(histories.indptr[:-1], np.diff(histories.indptr))
    place = np.arange(len(histories.items), dtype=np.int64)
    past = place - starts
    return np.column_stack([place, past])[past > 0]


def _normal(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> FloatArray:
    drawn: FloatArray = (rng.standard_normal(shape) * scale).astype(np.float32)
    return drawn


def _softmax(scores: FloatArray) -> FloatArray:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    found: FloatArray = powers / powers.sum(axis=1, keepdims=True)
    return found
