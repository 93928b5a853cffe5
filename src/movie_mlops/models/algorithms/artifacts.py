"""What a stored artifact must hold to become a model again: parameters, arrays of their shapes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from movie_mlops.domain.errors import ArtifactCorruptError


@contextmanager
def reading_card(name: str) -> Iterator[None]:
    """While the card of an algorithm's artifact is read: what it lacks is an artifact's fault.

    Raises:
        ArtifactCorruptError: a part of the card is missing or no such thing.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        message = f"the card of a {name} model lacks its parameters: {error}"
        raise ArtifactCorruptError(message) from error


def checked(
    arrays: Mapping[str, NDArray[Any]], name: str, shape: tuple[int | None, ...]
) -> NDArray[Any]:
    """A finite array of this shape (None: any length) out of an artifact.

    Raises:
        ArtifactCorruptError: missing, of another shape, or with NaN or infinity in it.
    """
    array = arrays.get(name)
    if array is None:
        message = f"the artifact has no array {name!r}"
        raise ArtifactCorruptError(message)
    if len(array.shape) != len(shape) or any(
        want is not None and want != have for want, have in zip(shape, array.shape, strict=True)
    ):
        message = f"array {name!r} has shape {array.shape}, expected {shape}"
        raise ArtifactCorruptError(message)
    if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        message = f"array {name!r} holds NaN, infinity or no numbers"
        raise ArtifactCorruptError(message)
    return array


def checked_positions(
    arrays: Mapping[str, NDArray[Any]], name: str, shape: tuple[int | None, ...], films: int
) -> NDArray[Any]:
    """The same for an array that names films by their positions, 0 ... films - 1.

    Raises:
        ArtifactCorruptError: as `checked`, or a position that does not exist.
    """
    array = checked(arrays, name, shape)
    if array.dtype.kind not in "iu" or (array.size and not 0 <= array.min() <= array.max() < films):
        message = f"array {name!r} names films that the vocabulary does not have"
        raise ArtifactCorruptError(message)
    return array
