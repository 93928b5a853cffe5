"""The time between two acts, as a bucket of a logarithmic scale."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from movie_mlops.models.algorithms.base import IntArray

BUCKETS = 32  # the last one begins at 34 years
_MICROSECONDS = 1_000_000


def buckets(times: IntArray, others: IntArray) -> NDArray[np.integer[Any]]:
    """Bucket of |time - other|, [..., times, others], of times in microseconds since 1970.

    0: the same second; b > 0: from 2^(b-1) seconds on, to below 2^b.
    """
    seconds, other_seconds = times // _MICROSECONDS, others // _MICROSECONDS
    apart = np.abs(seconds[..., :, None] - other_seconds[..., None, :])
    found: NDArray[np.integer[Any]] = np.minimum(np.frexp(apart)[1], BUCKETS - 1)
    return found
