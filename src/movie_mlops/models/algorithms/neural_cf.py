"""Neural collaborative filtering: the guide's network, and the recommender made of it.

NeuMF (He et al. 2017) knows users by their embeddings, not the order of what they watched. Here
it is a lesson: on the same data the closed-form models are better and cheaper, so the network
has to earn its place in the evaluation like every other algorithm.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from movie_mlops.domain.errors import ConfigurationError
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
from movie_mlops.models.algorithms.networks.modelled import Modelled
from movie_mlops.models.algorithms.popularity import interaction_shares

PRIOR_FILMS = 3.0
LATEST = 20  # films whose contribution is computed
_FOLD_RIDGE = 1.0
_FOLD_SHRINK = 5.0  # films of nothing that a short history is filled up with

History = NDArray[np.integer[Any]]


def create_model(name: str, config: Mapping[str, Any]) -> Any:
    """A PyTorch network of this name; there is `neural_cf`.

    `config` has num_users, num_movies, embedding_dim, hidden_dims, dropout_rate (the last three
    have defaults). `model(user_ids, movie_ids)` takes int64 positions [B] and gives float [B].

    Raises:
        ConfigurationError: no such network, wrong settings, or PyTorch is not installed.
    """
    if name != NeuralCf.name:
        message = f"there is no network {name!r}; there is: {NeuralCf.name}"
        raise ConfigurationError(message)
    try:
        return network_module("neumf").NeuMF(**config)
    except TypeError as error:
        message = f"{name} does not take these settings: {error}"
        raise ConfigurationError(message) from error


def count_parameters(model: Any) -> int:
    """Numbers in a PyTorch network that training changes."""
    found: int = network_module("neumf").count_parameters(model)
    return found


def data_loaders(
    histories: TrainingHistories, batch_size: int = 1_024, negatives: int = 4, seed: int = 42
) -> tuple[Any, Any]:
    """Training and validation batches (user_ids, movie_ids, labels) of these histories.

    Labels are 1 for watched films and 0 for `negatives` drawn ones each; validation has each
    user's last film. The loaders' `num_users` and `num_movies` are what `create_model` needs.

    Raises:
        ConfigurationError: PyTorch is not installed.
    """
    loaders: tuple[Any, Any] = network_module("neumf").data_loaders(
        histories, batch_size, negatives, seed
    )
    return loaders


class Network(Protocol):
    """What the model asks of its network, in NumPy or on a device."""

    def scores(self, users: FloatArray, films: IntArray) -> FloatArray:
        """[users, films] of user vectors and film rows."""


class Layers:
    """NeuMF's forward in NumPy."""

    def __init__(self, weights: Mapping[str, NDArray[Any]]) -> None:
        self._weights, self._dim = weights, weights["movies"].shape[1]
        self._count = sum(name.startswith("layer") for name in weights)
        # the first layer's film half is the same for every user
        first = weights["layer0"][:, self._dim :]
        self._films_first = weights["movies_mlp"] @ first.T + weights["bias0"]

    def scores(self, users: FloatArray, films: IntArray) -> FloatArray:
        """[users, films] of user vectors and film rows."""
        weights, dim = self._weights, self._dim
        of_user = users[:, dim:] @ weights["layer0"][:, :dim].T
        x = np.maximum(of_user[:, None] + self._films_first[films], 0)
        for number in range(1, self._count):
            x = np.maximum(x @ weights[f"layer{number}"].T + weights[f"bias{number}"], 0)
        output = weights["output"]
        found: FloatArray = x @ output[dim:] + weights["output_bias"]
        found += (users[:, :dim] * output[:dim]) @ weights["movies"][films].T
        return found


class NeuralCf:
    """NeuMF, trained with user embeddings, served without: a history is folded in.

    A user's two vectors are a ridge regression on the mean vectors of the films watched, fitted
    over the users of the training; short histories are drawn to the average user. So a viewer
    who was in the training is served by the history too, and what the embedding knew beyond that
    is lost. The order of the history does not matter.
    """

    name: ClassVar[str] = "neural_cf"

    def __init__(  # noqa: PLR0913 (hyperparameters, each by name)
        self,
        embedding_dim: int = 32,
        hidden_dims: Sequence[int] = (64, 32, 16),
        dropout_rate: float = 0.2,
        epochs: int = 10,
        *,
        negatives: int = 4,
        rate: float = 1e-3,
        weight_decay: float = 0.0,
        batch_size: int = 4_096,
        device: str | None = None,
        threads: int = 1,
    ) -> None:
        self._sizes: dict[str, Any] = {
            "embedding_dim": embedding_dim,
            "hidden_dims": list(hidden_dims),
            "dropout_rate": dropout_rate,
        }
        self._plan = {
            "epochs": epochs,
            "negatives": negatives,
            "rate": rate,
            "weight_decay": weight_decay,
            "batch_size": batch_size,
            "device": device,
            "threads": threads,
        }
        self.progress: Progress | None = None
        self.movie_ids: IntArray = np.empty(0, np.int64)

    def fit(self, histories: TrainingHistories, seed: int = 0) -> Self:
        """Train, then fit the fold-in; needs PyTorch.

        Raises:
            TrainingDataError: no interaction at all.
            ConfigurationError: PyTorch is not installed, or there is no such device.
        """
        shares = interaction_shares(histories)
        modelled = Modelled.of(histories.movie_ids, shares, PRIOR_FILMS)
        known = TrainingHistories(
            histories.movie_ids[modelled.films],
            histories.user_ids,
            histories.indptr,
            modelled.rows[histories.items].astype(np.int32),
        )
        neumf = network_module("neumf")

        def report(text: str, done: int, total: int | None) -> None:
            if self.progress is not None:
                self.progress(text, done, total)

        network = neumf.train(known, self._sizes, neumf.Plan(**self._plan), seed, report)
        weights = network.to_arrays()
        vectors = np.concatenate([weights["movies"], weights["movies_mlp"]], axis=1)
        weights["fold_in"] = _fold_in(known, vectors, network.user_vectors())
        self._set(modelled, weights)
        return self

    def _set(self, modelled: Modelled, weights: Mapping[str, NDArray[Any]]) -> None:
        self.modelled, self.movie_ids = modelled, modelled.movie_ids
        self.weights = {name: np.asarray(array) for name, array in weights.items()}
        self._vectors = np.concatenate([self.weights["movies"], self.weights["movies_mlp"]], axis=1)
        self.network: Network = Layers(self.weights)

    def running_on(self, network: Network) -> Self:
        """The same model with its network on another device."""
        model = copy(self)
        model.network = network
        return model

    def score(self, histories: Sequence[History]) -> FloatArray:
        """See Recommender; films that nobody watched come last."""
        known = [self.modelled.known(history) for history in histories]
        scores = self.modelled.baseline(np.array([len(rows) for rows in known], np.int64))
        every = np.arange(len(self.modelled))
        for row, rows in enumerate(known):
            if len(rows):
                scores[row] += self.network.scores(self._users([rows]), every)[0]
        return self.modelled.spread(scores)

    def _users(self, known: Sequence[IntArray]) -> FloatArray:
        """Both vectors of users with these films."""
        features = [self._vectors[rows].sum(axis=0) / (len(rows) + _FOLD_SHRINK) for rows in known]
        folded: FloatArray = np.stack(features) @ self.weights["fold_in"][:-1]
        folded += self.weights["fold_in"][-1]
        return folded

    def contributions(self, history: History, item: int) -> FloatArray:
        """What the score loses without each of the latest films; older ones are left at nothing.

        So is everything for a film that nobody watched in training.
        """
        found = np.zeros(len(history), np.float32)
        rows, known = self.modelled.rows, self.modelled.known(history)
        places = np.flatnonzero(rows[np.asarray(history, np.int64)] >= 0)[-LATEST:]
        if rows[item] < 0 or not len(places):
            return found
        first = len(known) - len(places)
        lists = [known, *(np.delete(known, place) for place in range(first, len(known)))]
        some = [films for films in lists if len(films)]
        scores = np.zeros(len(lists), np.float32)
        scores[: len(some)] = self.network.scores(self._users(some), rows[[item]])[:, 0]
        lengths = np.array([len(films) for films in lists])
        scores += self.modelled.baseline(lengths)[:, rows[item]]
        found[places] = scores[0] - scores[1:]
        return found

    def similar(self, item: int) -> FloatArray:
        """Cosine of the films' product vectors; films that nobody watched come last."""
        return self.modelled.cosines(self.weights["movies"], item)

    def artifact(self) -> tuple[Arrays, Card]:
        """The films' half of the network, the fold-in, the prior, the vocabulary."""
        arrays: Arrays = {
            "movie_ids": self.movie_ids,
            "modelled": self.modelled.films,
            "prior": self.modelled.prior,
            **self.weights,
        }
        card = {
            "algorithm": self.name,
            "parameters": {**self._sizes, **self._plan},
            "films": len(self.movie_ids),
            "modelled_films": len(self.modelled),
        }
        return arrays, card

    @classmethod
    def from_artifact(cls, arrays: Mapping[str, NDArray[Any]], card: Card) -> Self:
        """Rebuild; the arrays may stay on disk as memory maps."""
        with reading_card(cls.name):
            model = cls(**card["parameters"])
        movie_ids = checked(arrays, "movie_ids", (None,))
        films = checked_positions(arrays, "modelled", (None,), len(movie_ids))
        prior = checked(arrays, "prior", (len(films),))
        shapes = model._shapes(len(films))
        weights = {name: checked(arrays, name, of) for name, of in shapes.items()}
        model._set(Modelled(movie_ids, films, prior, PRIOR_FILMS), weights)
        return model

    def _shapes(self, films: int) -> dict[str, tuple[int, ...]]:
        dim = int(self._sizes["embedding_dim"])
        widths = [2 * dim, *self._sizes["hidden_dims"]]
        shapes: dict[str, tuple[int, ...]] = {
            "movies": (films, dim),
            "movies_mlp": (films, dim),
            "output": (dim + widths[-1],),
            "output_bias": (1,),
            "fold_in": (2 * dim + 1, 2 * dim),
        }
        for number in range(len(widths) - 1):
            shapes[f"layer{number}"] = (widths[number + 1], widths[number])
            shapes[f"bias{number}"] = (widths[number + 1],)
        return shapes


def _fold_in(histories: TrainingHistories, vectors: FloatArray, users: FloatArray) -> FloatArray:
    """The ridge map [2 dim + 1, 2 dim] from mean film vectors (and 1) to user vectors."""
    some = np.flatnonzero(np.diff(histories.indptr))
    sums = np.add.reduceat(vectors[histories.items], histories.indptr[some], axis=0)
    means = sums / (np.diff(histories.indptr)[some] + _FOLD_SHRINK)[:, None]
    features = np.column_stack([means, np.ones(len(some))]).astype(np.float64)
    spread = np.full(features.shape[1], _FOLD_RIDGE * max(features[:, :-1].var(), 1e-12))
    spread[-1] = 0
    gram = features.T @ features + np.diag(spread) + 1e-9 * np.eye(len(spread))
    found: FloatArray = np.linalg.solve(gram, features.T @ users[some]).astype(np.float32)
    return found
