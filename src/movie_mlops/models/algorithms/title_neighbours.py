"""Ratings of the films whose titles share most rare words."""

import re
import zlib
from collections.abc import Mapping
from functools import cached_property
from itertools import pairwise
from math import sqrt
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from movie_mlops.domain.errors import ArtifactCorruptError
from movie_mlops.models.algorithms.base import Arrays, RatingRows
from movie_mlops.models.algorithms.rating_encoders import Values, checked_numbers
from movie_mlops.models.algorithms.rating_features import Film, films_of
from movie_mlops.models.algorithms.title_grams import LONGEST_TITLE

MOST_COMMON = 300  # films; a word in more titles tells of no relation
NEIGHBOURS = 10
_PRIOR = 0.02
_WORD = re.compile(r"\w+")
_NONE = (0.0, 0.0, 0.0)
_REST = 16  # bits of a hash behind those that it is looked up by
_BEFORE = np.array([-1], np.int32)  # stands before every film


class TitleNeighbours:
    """Ratings of the films whose titles share most rare words: series, remakes, franchises.

    Likeness is the cosine of words and pairs of words weighted by rarity (tf-idf); words that
    stand in more than MOST_COMMON titles make no neighbours.
    """

    columns: ClassVar[tuple[str, ...]] = ("title_neighbours", "title_nearest", "title_likeness")

    def fit(self, rows: RatingRows, centred: Values) -> Self:
        """See Encoder."""
        words = [np.array(_hashes(_words(film.title_text)), np.int64) for film in films_of(rows)]
        owners = np.repeat(np.arange(len(words)), [len(each) for each in words])
        flat = np.concatenate(words) if words else np.empty(0, np.int64)
        hashes, places, counts = np.unique(flat, return_inverse=True, return_counts=True)
        # a title that is asked about counts as one more: its own words are never the rarest of all
        rarity = np.log((len(words) + 1) / (counts + 1))
        self._rarest = np.array([np.log(len(words) + 1)])
        norms = np.sqrt(np.bincount(owners, rarity[places] ** 2, len(words)))
        order = np.argsort(places, kind="stable")
        order = order[counts[places[order]] <= MOST_COMMON]
        sizes = np.where(counts <= MOST_COMMON, counts, 0)
        self._hashes, self._rarity = hashes, rarity
        self._ends = np.cumsum(sizes)
        self._owners = owners[order].astype(np.int32)
        self._norms = np.maximum(norms, 1e-9)
        self._ratings = centred
        return self

    def row(self, film: Film) -> tuple[float, ...]:
        """See Encoder."""
        words = _words(film.title_text)
        if max(map(self._place, map(zlib.crc32, words)), default=-1) < 0:
            return _NONE  # no pair has a word that no title has
        lists, weights, norm = self._in_common(_hashes(words))
        found = np.concatenate([_BEFORE, *lists])
        films = np.sort(found)
        films = films[1:][films[1:] != films[:-1]]
        if not len(films):
            return _NONE
        sizes = [len(each) for each in lists]
        shared: Any = np.bincount(films.searchsorted(found[1:]), np.array(weights).repeat(sizes))
        likeness = shared / (self._norms.take(films) * norm)
        if len(films) > NEIGHBOURS:
            nearest = (-likeness).argpartition(NEIGHBOURS)[:NEIGHBOURS]
            films, likeness = films.take(nearest), likeness.take(nearest)
        cubes = likeness**3
        total = float(np.add.reduce(cubes))
        mean = float(cubes.dot(self._ratings.take(films))) / (total + _PRIOR)
        return (mean, float(np.maximum.reduce(likeness)), total)

    def _in_common(self, words: list[int]) -> tuple[list[NDArray[np.int32]], list[float], float]:
        """The films and the weight of each word that has some, and the length of the title."""
        _, _, rarity, ends = self._views
        lists, weights, squares, rarest = [], [], [], float(self._rarest[0])
        for word in words:
            place = self._place(word)
            if place < 0:
                squares.append(rarest * rarest)
                continue
            squares.append(rarity[place] * rarity[place])
            start, end = ends[place - 1] if place else 0, ends[place]
            if start < end:
                lists.append(self._owners[start:end])
                weights.append(squares[-1])
        # summed only where it is wanted, and as NumPy does: films that tie are many
        return lists, weights, max(sqrt(np.add.reduce(squares)), 1e-9) if lists else 0.0

    @cached_property
    def _views(self) -> Any:
        """Where the hashes of each beginning begin, and what belongs to each hash.

        One number at a time is slow of an array.
        """
        firsts = self._hashes.searchsorted(np.arange((1 << 32 - _REST) + 1) << _REST)
        return firsts.astype(np.int32).data, self._hashes.data, self._rarity.data, self._ends.data

    def _place(self, word: int) -> int:
        """Where the hash stands among those of all titles; -1: nowhere."""
        firsts, hashes, _, _ = self._views
        beginning = word >> _REST
        for place in range(firsts[beginning], firsts[beginning + 1]):
            if hashes[place] == word:
                return place
        return -1

    def arrays(self) -> Arrays:
        """See Encoder."""
        return {f"neighbours{name}": getattr(self, name) for name in self._names}

    _names: ClassVar[tuple[str, ...]] = (
        "_hashes", "_rarity", "_ends", "_owners", "_norms", "_ratings", "_rarest",
    )  # fmt: skip

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """See Encoder."""
        made = cls()
        for name in cls._names:
            setattr(made, name, checked_numbers(arrays, f"neighbours{name}"))
        films, words = len(made._norms), len(made._hashes)
        sound = (
            len(made._ratings) == films
            and len(made._rarity) == len(made._ends) == words
            and len(made._rarest) == 1
            and (not words or int(made._ends[-1]) == len(made._owners))
            and bool((np.diff(made._ends) >= 0).all())
            and (not len(made._owners) or 0 <= made._owners.min() <= made._owners.max() < films)
        )
        if not sound:
            message = "the artifact's title neighbours do not fit together"
            raise ArtifactCorruptError(message)
        return made


def _words(text: str) -> list[bytes]:
    return [word.encode() for word in _WORD.findall(text.casefold()[:LONGEST_TITLE])]


def _hashes(words: list[bytes]) -> list[int]:
    """Hashes of the words and the pairs of neighbouring words in order, each once."""
    tokens = {*words, *[b"%b %b" % pair for pair in pairwise(words)]}
    return sorted(map(zlib.crc32, tokens))
