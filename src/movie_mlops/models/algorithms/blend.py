"""A weighted sum of fitted recommenders, made by their names."""

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray

from movie_mlops.domain.errors import ArtifactCorruptError
from movie_mlops.models.algorithms import create, load
from movie_mlops.models.algorithms.artifacts import checked, reading_card
from movie_mlops.models.algorithms.base import (
    Arrays,
    Card,
    FloatArray,
    IntArray,
    Iterative,
    Progress,
    Recommender,
    TrainingHistories,
    baseline_of,
    contributions_of,
    scores_of,
)

Member = tuple[str, Mapping[str, Any], float]
"""Name of an algorithm, its own parameters, its weight."""


class Blend:
    """Score = sum of weight x score over the members.

    Each member fills in what a short history lacks in its own scale, and each ranks by popularity
    without a history, so their sum does too. `max_memory_mb` is shared: a member may have its
    part of what those before it left; the card says how many films each models.

    By default a low rank that generalises and a full rank that remembers: better than either.
    """

    name: ClassVar[str] = "blend"
    usual: ClassVar[Sequence[Member]] = (
        ("linear_softmax", {}, 1.0),
        ("sequence_linear", {}, 400.0),
    )

    def __init__(
        self, members: Sequence[Member] | None = None, max_memory_mb: float = 256.0
    ) -> None:
        members = self.usual if members is None else members
        self._parameters: dict[str, Any] = {
            "members": [[name, dict(given), float(weight)] for name, given, weight in members],
            "max_memory_mb": max_memory_mb,
        }
        self.progress: Progress | None = None
        self.movie_ids: IntArray = np.empty(0, np.int64)
        self.members: list[Recommender] = []
        self._weights = [np.float32(weight) for _, _, weight in members]
        for name, given, _ in members:
            create(name, **given)  # names and parameters are refused here, not after a long fit

    def fit(self, histories: TrainingHistories, seed: int = 0) -> Self:
        """Fit one member after the other, each by a seed of its own: two of a kind shall differ."""
        self.movie_ids, self.members = histories.movie_ids, []
        left = float(self._parameters["max_memory_mb"])
        given = self._parameters["members"]
        for place, (name, parameters, _) in enumerate(given):
            member = create(name, **parameters)
            if "max_memory_mb" in signature(type(member)).parameters:
                part = {"max_memory_mb": left / (len(given) - place)}
                member = create(name, **{**part, **parameters})
            if isinstance(member, Iterative):
                member.progress = self.progress
            self.members.append(member.fit(histories, seed + place))
            if isinstance(member, Iterative):
                member.progress = None
            left -= sum(array.nbytes for array in member.artifact()[0].values()) / 2**20
        return self

    def baseline(self, length: int | IntArray) -> FloatArray:
        """What is there without the films of a history of this length: the members' own parts."""
        return self._sum([np.array(baseline_of(member, length)) for member in self.members])

    def _sum(self, parts: Sequence[FloatArray]) -> FloatArray:
        """The parts weighted, in place: they are ours to write to."""
        for weight, part in zip(self._weights, parts, strict=True):
            if weight != 1:
                part *= weight
        total = parts[0]
        for part in parts[1:]:
            total += part
        return total

    @property
    def reads_times(self) -> bool:
        """Whether any member does."""
        return any(getattr(member, "reads_times", False) for member in self.members)

    def score(
        self,
        histories: Sequence[NDArray[np.integer[Any]]],
        times: Sequence[IntArray] | None = None,
    ) -> FloatArray:
        """The members' scores, weighted."""
        return self._sum([scores_of(member, histories, times) for member in self.members])

    def contributions(
        self, history: NDArray[np.integer[Any]], item: int, times: IntArray | None = None
    ) -> FloatArray:
        """The members' contributions, weighted: exact as far as theirs are."""
        found: FloatArray = self.contributions_of(history, np.array([item]), times)[0]
        return found

    def contributions_of(
        self,
        history: NDArray[np.integer[Any]],
        items: NDArray[np.integer[Any]],
        times: IntArray | None = None,
    ) -> FloatArray:
        """The same for several films at once, shape [items, len(history)]."""
        parts = [contributions_of(member, history, items, times) for member in self.members]
        return self._sum(parts)

    def similar(self, item: int) -> FloatArray:
        """Mean of the members' likenesses, each in standard deviations from its mean."""
        others = np.arange(len(self.movie_ids)) != item
        total = np.zeros(len(self.movie_ids), np.float32)
        for member in self.members:
            alike = member.similar(item)
            known = alike[others]
            if len(known):
                total[others] += (known - known.mean()) / max(float(known.std()), 1e-12)
        total /= len(self.members)
        total[item] = -np.inf
        return total

    def artifact(self) -> tuple[Arrays, Card]:
        """The members' arrays, prefixed by their place, and their cards."""
        arrays: Arrays = {"movie_ids": self.movie_ids}
        cards = []
        for place, member in enumerate(self.members):
            of_member, card = member.artifact()
            cards.append(card)
            for name, array in of_member.items():
                if name != "movie_ids":
                    arrays[f"{_prefix(place, card)}{name}"] = array
        return arrays, {"algorithm": self.name, "parameters": self._parameters, "members": cards}

    @classmethod
    def from_artifact(cls, arrays: Mapping[str, NDArray[Any]], card: Card) -> Self:
        """Rebuild each member from its part."""
        with reading_card(cls.name):
            model = cls(**card["parameters"])
            cards = list(card["members"])
            prefixes = [_prefix(place, of_member) for place, of_member in enumerate(cards)]
        model.movie_ids = checked(arrays, "movie_ids", (None,))
        for prefix, of_member in zip(prefixes, cards, strict=True):
            part: Arrays = {"movie_ids": model.movie_ids}
            for name, array in arrays.items():
                if name.startswith(prefix):
                    part[name.removeprefix(prefix)] = array
            try:
                member = load(part, of_member)
            except ArtifactCorruptError as error:
                # The array's name in the message is that of the member; ours has the prefix
                message = str(error).replace("array '", f"array '{prefix}", 1)
                raise ArtifactCorruptError(message) from error
            model.members.append(cast("Recommender", member))
        return model


class NeuralBlend(Blend):
    """A network that generalises in place of the low rank."""

    name = "neural_blend"
    usual = (("sasrec", {}, 1.0), ("sequence_linear", {}, 300.0))


class NeuralEnsemble(Blend):
    """Unlike networks, one with a linear branch, one on blurred orders, and the full rank."""

    name = "neural_ensemble"
    usual = (
        ("sasrec", {}, 0.25),
        ("sasrec", {"jitter": 0.4}, 0.25),
        ("sasrec", {"wide": True}, 0.5),
        ("sequence_linear", {}, 300.0),
    )


def _prefix(place: int, card: Card) -> str:
    return f"{place}_{card['algorithm']}_"
