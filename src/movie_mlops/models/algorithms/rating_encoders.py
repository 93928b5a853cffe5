"""What ratings of other films say of a film: through its title, its genres, its people.

Each encoder is fitted on centred ratings and turns rows into columns about 0. For the rows that a
booster is trained on, the columns come from the other folds (`out_of_fold`): an encoder that had
seen a row's own rating would tell it.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from movie_mlops.domain.errors import ArtifactCorruptError
from movie_mlops.models.algorithms.base import Arrays, RatingRows
from movie_mlops.models.algorithms.rating_features import Film, films_of
from movie_mlops.models.algorithms.title_grams import (
    TITLE_BUCKETS,
    TitleScores,
    fit_title_weights,
    title_matrix,
)

TITLE_STRENGTH = 6.0  # of the ridge, in titles
GENRE_SET_PRIOR = 20.0  # films of the mean rating that each set of genres starts with
PERSON_PRIOR = 3.0  # the same for a director or an actor
LEADING_ACTORS = 5
_NOBODY = (0.0, 0.0, 0.0, 0.0, 0.0)
Values = NDArray[np.float64]


class Encoder(Protocol):
    """Columns about 0 from what was learnt of other films' ratings."""

    columns: ClassVar[tuple[str, ...]]

    def fit(self, rows: RatingRows, centred: Values) -> Self:
        """Learn from ratings less their mean, shape [rows]."""
        ...

    def row(self, film: Film) -> tuple[float, ...]:
        """The columns of one film."""
        ...

    def arrays(self) -> Arrays:
        """Everything that `from_arrays` needs; the names begin with the encoder's own."""
        ...

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Rebuild.

        Raises:
            ArtifactCorruptError: an array is missing, of wrong shape, or not finite.
        """
        ...


def out_of_fold(
    make: Callable[[], Encoder], rows: RatingRows, centred: Values, folds: NDArray[np.int64]
) -> Values:
    """Each row's columns from an encoder that saw the other folds only."""
    found = np.empty((len(rows), len(make().columns)))
    for fold in np.unique(folds):
        held = np.flatnonzero(folds == fold)
        others = np.flatnonzero(folds != fold)
        encoder = make().fit(rows.take(others), centred[others])
        found[held] = [encoder.row(film) for film in films_of(rows.take(held))]
    return found


class TitleGrams:
    """Ridge regression on hashed character n-grams of the title."""

    columns: ClassVar[tuple[str, ...]] = ("title_score",)

    def fit(self, rows: RatingRows, centred: Values) -> Self:
        """See Encoder."""
        texts = [film.title_text for film in films_of(rows)]
        self._weights = fit_title_weights(title_matrix(texts), centred, TITLE_STRENGTH)
        return self

    def row(self, film: Film) -> tuple[float, ...]:
        """See Encoder."""
        return (self._score(film.title_text),)

    @cached_property
    def _score(self) -> TitleScores:
        return TitleScores(self._weights)

    def arrays(self) -> Arrays:
        """See Encoder."""
        return {"title_weights": self._weights}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """See Encoder."""
        made = cls()
        made._weights = checked_numbers(arrays, "title_weights")
        if len(made._weights) != TITLE_BUCKETS:
            message = "the artifact's title weights are of wrong shape"
            raise ArtifactCorruptError(message)
        return made


class GenreSets:
    """The mean of each set of genres, drawn to the middle."""

    columns: ClassVar[tuple[str, ...]] = ("genres_score",)

    def fit(self, rows: RatingRows, centred: Values) -> Self:
        """See Encoder."""
        masks = np.array([film.genre_mask for film in films_of(rows)], np.int64)
        self._means = _shrunk_means(masks, centred, GENRE_SET_PRIOR)
        return self

    def row(self, film: Film) -> tuple[float, ...]:
        """See Encoder."""
        return (self._means.get(film.genre_mask, 0.0),)

    def arrays(self) -> Arrays:
        """See Encoder."""
        return _as_arrays("genres", self._means)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """See Encoder."""
        made = cls()
        made._means = _from_arrays(arrays, "genres")
        return made


class People:
    """How directors and leading actors did in other films; rows without people are 0."""

    columns: ClassVar[tuple[str, ...]] = (
        "directors_score", "directors_known", "cast_score", "cast_best", "cast_known",
    )  # fmt: skip

    def fit(self, rows: RatingRows, centred: Values) -> Self:
        """See Encoder."""
        films = films_of(rows)
        self._directors = _of_people([_ids(film.directors) for film in films], centred)
        self._cast = _of_people([_ids(film.cast) for film in films], centred)
        return self

    def row(self, film: Film) -> tuple[float, ...]:
        """See Encoder."""
        if not film.directors and not film.cast:
            return _NOBODY
        directors = [self._directors[of] for of in _ids(film.directors) if of in self._directors]
        cast = [self._cast[of] for of in _ids(film.cast) if of in self._cast]
        return (
            sum(directors) / max(len(directors), 1),
            len(directors),
            sum(cast) / max(len(cast), 1),
            max(cast, default=0.0),
            len(cast),
        )

    def arrays(self) -> Arrays:
        """See Encoder."""
        return _as_arrays("directors", self._directors) | _as_arrays("cast", self._cast)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """See Encoder."""
        made = cls()
        made._directors = _from_arrays(arrays, "directors")
        made._cast = _from_arrays(arrays, "cast")
        return made


def _ids(names: Sequence[str]) -> list[int]:
    """Hashes of the leading names."""
    return [zlib.crc32(name.casefold().encode()) for name in names[:LEADING_ACTORS]]


def _of_people(ids: Sequence[Sequence[int]], centred: Values) -> dict[int, float]:
    flat = np.array([one for of in ids for one in of], np.int64)
    return _shrunk_means(flat, np.repeat(centred, [len(of) for of in ids]), PERSON_PRIOR)


def _shrunk_means(keys: NDArray[np.int64], values: Values, prior: float) -> dict[int, float]:
    """Mean of each key's values as if `prior` more of them had been 0."""
    distinct, place = np.unique(keys, return_inverse=True)
    sums = np.bincount(place, values, len(distinct))
    means = sums / (np.bincount(place, minlength=len(distinct)) + prior)
    return dict(zip(distinct.tolist(), means.tolist(), strict=True))


def _as_arrays(name: str, means: Mapping[int, float]) -> Arrays:
    return {
        f"{name}_keys": np.array(list(means), np.int64),
        f"{name}_means": np.array(list(means.values()), np.float64),
    }


def _from_arrays(arrays: Mapping[str, NDArray[Any]], name: str) -> dict[int, float]:
    keys, means = checked_numbers(arrays, f"{name}_keys"), checked_numbers(arrays, f"{name}_means")
    if keys.shape != means.shape:
        message = f"the artifact's {name} keys and means are of different length"
        raise ArtifactCorruptError(message)
    return dict(zip(keys.tolist(), means.tolist(), strict=True))


def checked_numbers(arrays: Mapping[str, NDArray[Any]], name: str) -> NDArray[Any]:
    """The array of this name, shape [anything].

    Raises:
        ArtifactCorruptError: it is missing, of wrong shape, or not finite.
    """
    found = arrays.get(name)
    if found is None or found.ndim != 1 or not np.isfinite(found).all():
        message = f"the artifact's {name} is missing, of wrong shape, or holds no numbers"
        raise ArtifactCorruptError(message)
    return np.asarray(found)
