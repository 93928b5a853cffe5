"""Implicit-feedback matrix factorisation by alternating least squares; histories are folded in.

Hu, Koren & Volinsky 2008 with the settings of Rendle, Krichene, Zhang & Koren 2022 ("Revisiting
the performance of iALS"): every unwatched film counts a little, regularisation grows with how
often a user or film occurs.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from movie_mlops.models.algorithms.artifacts import checked, reading_card
from movie_mlops.models.algorithms.base import (
    Arrays,
    Card,
    FloatArray,
    IntArray,
    Progress,
    TrainingHistories,
)
from movie_mlops.models.algorithms.popularity import interaction_shares, without

SPREAD = 0.1  # of the factors at the start, divided by sqrt(dim)
DIM_PER_INTERACTIONS = 128 / 500_000  # what few interactions carry: fewer factors
MOST_DIM, LEAST_DIM = 128, 64
NEWCOMER_FILMS = 3.0  # popularity's part fades as exp(-films / this)
_TIE_BREAK = np.float32(1e-4)  # of popularity, where no factor decides


class ImplicitAls:
    """Score of film j = taste . factors[j] + baseline(films in the history)[j].

    taste = (unobserved_weight F'F + sum of f f' over the history's films + ridge)^-1 sum of f:
    one ridge solve per history, no parameter per user. The order of a history does not matter.
    `dim` None: 128 from half a million interactions, fewer below.
    """

    name: ClassVar[str] = "implicit_als"

    def __init__(
        self,
        dim: int | None = None,
        unobserved_weight: float = 0.3,
        ridge: float = 0.007,
        ridge_power: float = 1.0,
        sweeps: int = 12,
        max_memory_mb: float = 256.0,
    ) -> None:
        self._parameters: dict[str, Any] = {
            "dim": dim,
            "unobserved_weight": unobserved_weight,
            "ridge": ridge,
            "ridge_power": ridge_power,
            "sweeps": sweeps,
            "max_memory_mb": max_memory_mb,
        }
        self.progress: Progress | None = None
        self._set(np.empty(0, np.int64), np.empty(0, np.float32), np.empty((0, 0), np.float32))

    def _set(self, movie_ids: IntArray, prior: FloatArray, factors: FloatArray) -> None:
        # No memmap subclass: its bookkeeping costs more than a row
        self.movie_ids, self.prior = movie_ids, np.asarray(prior)
        self.factors = np.asarray(factors)
        weight = np.float32(self._parameters["unobserved_weight"])
        self._gram = weight * (self.factors.T @ self.factors)

    def fit(self, histories: TrainingHistories, seed: int = 0) -> Self:
        """Solve for all users, then all films, `sweeps` times, on one BLAS thread."""
        # threadpoolctl is needed for training only
        from threadpoolctl import threadpool_limits  # noqa: PLC0415

        shares = interaction_shares(histories)
        rng = np.random.default_rng(seed)
        dim = self._dim(len(histories.items), histories.item_count)
        factors = rng.standard_normal((histories.item_count, dim)).astype(np.float32)
        factors *= SPREAD / np.sqrt(dim)
        factors[histories.counts() == 0] = 0
        users = np.repeat(np.arange(histories.user_count), np.diff(histories.indptr))
        rows = np.unique(users * histories.item_count + histories.items)  # one per user and film
        users, films = np.divmod(rows, histories.item_count)
        by_user = _grouped(users, films, histories.user_count)
        by_film = _grouped(films, users, histories.item_count)
        tastes = np.zeros((histories.user_count, dim), np.float32)
        sweeps = int(self._parameters["sweeps"])
        with threadpool_limits(limits=1, user_api="blas"):
            for sweep in range(sweeps):
                self._solve(tastes, factors, by_user)
                self._solve(factors, tastes, by_film)
                if self.progress is not None:
                    self.progress(f"sweep {sweep + 1} of {sweeps}", sweep + 1, sweeps)
        self._set(histories.movie_ids, shares, factors)
        return self

    def _dim(self, interactions: int, films: int) -> int:
        given = self._parameters["dim"]
        by_data = int(DIM_PER_INTERACTIONS * interactions)
        wanted = int(given) if given else min(max(by_data, LEAST_DIM), MOST_DIM)
        fitting = int(self._parameters["max_memory_mb"] * 2**20 / (4 * films))
        return max(min(wanted, fitting), 1)

    def _ridge(self, observed: float, others: int) -> float:
        given = self._parameters
        size = observed + given["unobserved_weight"] * others
        return float(given["ridge"] * size ** given["ridge_power"])

    def _solve(
        self, wanted: FloatArray, known: FloatArray, groups: list[NDArray[np.integer[Any]]]
    ) -> None:
        """One ridge regression per row of `wanted`; rows without any observation become 0."""
        from scipy.linalg.lapack import sposv  # noqa: PLC0415 (training only)

        gram = np.float32(self._parameters["unobserved_weight"]) * (known.T @ known)
        for place, group in enumerate(groups):
            if not len(group):
                wanted[place] = 0
                continue
            observed = known[group]
            system = observed.T @ observed
            system += gram
            system.reshape(-1)[:: len(system) + 1] += np.float32(
                self._ridge(len(group), len(known))
            )
            _, found, _ = sposv(system.T, observed.sum(axis=0), overwrite_a=1, overwrite_b=1)
            wanted[place] = found

    def baseline(self, length: int | IntArray) -> FloatArray:
        """What is there without the films of a history of this length: popularity's part."""
        weight = np.exp(-np.asarray(length) / NEWCOMER_FILMS).astype(np.float32)
        scores: FloatArray = np.multiply.outer(np.maximum(weight, _TIE_BREAK), self.prior)
        return scores

    def score(self, histories: Sequence[NDArray[np.integer[Any]]]) -> FloatArray:
        """Fold each history in by one ridge solve, then one product."""
        scores = self.baseline(np.array([len(history) for history in histories], np.int64))
        tastes = np.stack(
            [self._fold_in(history, self.factors[history].sum(axis=0)) for history in histories]
        )
        scores += tastes @ self.factors.T
        return scores

    def _fold_in(self, history: NDArray[np.integer[Any]], wanted: FloatArray) -> FloatArray:
        """`wanted` divided by the history's system; a film that is there twice counts once."""
        films = np.unique(history)
        if not len(films):
            return np.zeros_like(wanted)
        observed = self.factors[films]
        system = self._gram + observed.T @ observed
        system.reshape(-1)[:: len(system) + 1] += np.float32(
            self._ridge(len(films), len(self.factors))
        )
        found: FloatArray = np.linalg.solve(system, wanted)
        return found

    def contributions(self, history: NDArray[np.integer[Any]], item: int) -> FloatArray:
        """Each film's term of the sum that the solve divides: exact for this history.

        Their sum plus `baseline(len(history))[item]` is the score. Taking a film out changes the
        system too, so the score then changes by somewhat more or less than its term.
        """
        history = np.asarray(history)
        if not len(history):
            return np.empty(0, np.float32)
        terms: FloatArray = self.factors[history] @ self._fold_in(history, self.factors[item])
        return terms

    def similar(self, item: int) -> FloatArray:
        """Cosine of the factors, popularity's order where there are none."""
        norms = np.maximum(np.linalg.norm(self.factors, axis=1), 1e-9)
        alike = (self.factors @ self.factors[item]) / (norms * norms[item])
        alike += _TIE_BREAK * self.prior
        return without(alike.astype(np.float32), item)

    def artifact(self) -> tuple[Arrays, Card]:
        """Factors, popularity and vocabulary; the card holds all parameters."""
        arrays: Arrays = {
            "movie_ids": self.movie_ids,
            "prior": self.prior,
            "factors": self.factors,
        }
        sizes = {"films": len(self.movie_ids), "factors": self.factors.shape[1]}
        return arrays, {"algorithm": self.name, "parameters": self._parameters, **sizes}

    @classmethod
    def from_artifact(cls, arrays: Mapping[str, NDArray[Any]], card: Card) -> Self:
        """Rebuild; the factors may stay on disk as a memory map."""
        with reading_card(cls.name):
            model = cls(**card["parameters"])
        movie_ids = checked(arrays, "movie_ids", (None,))
        prior = checked(arrays, "prior", (len(movie_ids),))
        model._set(movie_ids, prior, checked(arrays, "factors", (len(movie_ids), None)))
        return model


def _grouped(
    keys: NDArray[np.integer[Any]], values: NDArray[np.integer[Any]], count: int
) -> list[NDArray[np.integer[Any]]]:
    """The values of each key 0 ... count - 1."""
    order = np.argsort(keys, kind="stable")
    return np.split(values[order], np.cumsum(np.bincount(keys, minlength=count))[:-1])
