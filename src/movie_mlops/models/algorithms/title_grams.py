"""Hashed character n-grams and words of a title, and what they say of its rating.

Ridge regression over hashed features (Weinberger et al., ICML 2009); rows have unit length.
"""

import zlib
from collections.abc import Sequence
from math import fsum, sqrt
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy import sparse

TITLE_BUCKETS = 1 << 17
_SIZES = (2, 3, 4, 5)
LONGEST_TITLE = 200  # characters; what stands behind them says nothing
_LENGTHS = _SIZES[-1]  # of runs that are hashed at once, from 1 on


def _text(title: str) -> str:
    return f" {title.casefold()[:LONGEST_TITLE]} "


def _words(text: str) -> set[bytes]:
    return {f"word {word}".encode() for word in text.split()}


def _features(text: str) -> set[bytes]:
    """The n-grams and words, each of which counts once."""
    spans = [(at, at + size) for size in _SIZES for at in range(len(text) - size + 1)]
    return {text[start:end].encode() for start, end in spans} | _words(text)


def _buckets(title: str) -> NDArray[np.int64]:
    """Hashes of a title's n-grams and words."""
    features = sorted(_features(_text(title)))
    return np.fromiter((zlib.crc32(each) % TITLE_BUCKETS for each in features), np.int64)


def title_matrix(titles: Sequence[str]) -> "sparse.csr_matrix":
    """Rows of unit length over the hashed n-grams, shape [titles, TITLE_BUCKETS]."""
    # scipy takes a second and 30 MB and is needed for training only
    from scipy.sparse import csr_matrix  # noqa: PLC0415

    found = [_buckets(title) for title in titles]
    sizes = np.array([len(each) for each in found], np.int64)
    indptr = np.concatenate([[0], np.cumsum(sizes)])
    indices = np.concatenate(found) if found else np.empty(0, np.int64)
    data = np.repeat(1 / np.sqrt(np.maximum(sizes, 1)), sizes)
    return csr_matrix((data, indices, indptr), shape=(len(found), TITLE_BUCKETS))


def fit_title_weights(
    matrix: "sparse.csr_matrix", residuals: NDArray[np.float64], strength: float
) -> NDArray[np.float32]:
    """Ridge weights of the n-grams on residuals of mean 0, shape [TITLE_BUCKETS]."""
    from scipy.sparse.linalg import lsqr  # noqa: PLC0415 (for training only, as above)

    solution = lsqr(matrix, residuals, damp=np.sqrt(strength), iter_lim=60)[0]
    weights: NDArray[np.float32] = solution.astype(np.float32)
    return weights


class TitleScores:
    """A row of `title_matrix` times the weights, title by title.

    Exact: the sum is rounded once, so that its order does not matter.
    """

    def __init__(self, weights: NDArray[np.float32]) -> None:
        self._weights = weights
        self._one_by_one = weights.data  # of an array that is slow

    def __call__(self, title: str) -> float:
        """What the title alone says of the rating, about 0."""
        text = _text(title)
        found, others = list[float](), _features
        if text.isascii():
            found, others = self._weights.take(_ascii_buckets(text)).tolist(), _words
        weights, crc32 = self._one_by_one, zlib.crc32
        found += [weights[crc32(each) % TITLE_BUCKETS] for each in others(text)]
        return fsum(found) / sqrt(max(len(found), 1))


def _ascii_buckets(text: str) -> NDArray[np.int64]:
    """Hashes of the n-grams alone, each once, of a text of at least two ASCII characters.

    All at once: a CRC is the XOR of what each byte gives it at its distance from the end, and the
    runs that end at a character are that character, with the one before it, and so on.
    """
    given = _GIVEN.take(np.frombuffer(_NOTHING + text.encode(), np.uint8), axis=1)
    # row d moved right by d: in one column a character and those before it
    columns = np.ndarray(
        (_LENGTHS, len(text)), np.int64, given, 8 * len(_NOTHING), (given.strides[0] - 8, 8)
    )
    runs = np.bitwise_xor.accumulate(columns)[1:].ravel()
    runs.sort()
    # A run that begins before the text is a shorter one again. The shortest, a single character, is
    # none of `_SIZES`; its number is the lowest and goes with the first.
    later = runs[1:]
    buckets: NDArray[np.int64] = later[later != runs[:-1]] & (TITLE_BUCKETS - 1)
    return buckets


def _givens() -> NDArray[np.int64]:
    """What each byte gives the number of a run, by the distance from the run's end.

    The CRC's lowest bits, and above them the byte itself in bits of that distance alone, so that
    no two runs have the same number. Behind ASCII stands a byte that gives nothing.
    """
    given = np.zeros((_LENGTHS, 129), np.int64)
    for distance in range(_LENGTHS):
        behind = bytes(distance)
        for byte in range(128):
            crc = zlib.crc32(bytes([byte]) + behind) ^ zlib.crc32(behind)
            given[distance, byte] = (byte + 1) * TITLE_BUCKETS << 8 * distance | crc % TITLE_BUCKETS
    return given


_GIVEN = _givens()
_NOTHING = b"\x80" * (_LENGTHS - 1)
