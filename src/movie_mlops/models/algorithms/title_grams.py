"""Hashed character n-grams and words of a title, and what they say of its rating.

Ridge regression over hashed features (Weinberger et al., ICML 2009); rows have unit length.
"""

import zlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import fsum, sqrt
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy import sparse

TITLE_BUCKETS = 1 << 17
_SIZES = (2, 3, 4, 5)
LONGEST_TITLE = 200  # characters; what stands behind them says nothing
_KEPT_WORDS = 4_096  # they come again in other titles; 2 KB each
_LONGEST_KEPT = 12
_Weights = dict[bytes, float]


def _text(title: str) -> str:
    return f" {title.casefold()[:LONGEST_TITLE]} "


def _grams(text: str) -> list[bytes]:
    """Every run of 2 ... 5 characters, some more than once."""
    whole = text.encode()
    spans = [(at, at + size) for size in _SIZES for at in range(len(text) - size + 1)]
    if len(whole) == len(text):  # ASCII: characters are bytes
        return [whole[start:end] for start, end in spans]
    return [text[start:end].encode() for start, end in spans]


def _words(text: str) -> list[bytes]:
    return [f"word {word}".encode() for word in text.split()]


def _over_spaces(text: str) -> list[bytes]:
    """The n-grams that have a space within, so that no word alone has them."""
    whole, found = text.encode(), list[bytes]()
    plain, last = len(whole) == len(text), len(text) - 1
    at = text.find(" ", 1)
    while 0 < at < last:
        one, two, three = at - 1, max(at - 2, 0), max(at - 3, 0)
        if plain:
            found += (
                whole[one : at + 2], whole[one : at + 3], whole[one : at + 4],
                whole[two : at + 2], whole[two : at + 3], whole[three : at + 2],
            )  # fmt: skip
        else:
            spans = ((one, 2), (one, 3), (one, 4), (two, 2), (two, 3), (three, 2))
            found += [text[start : at + more].encode() for start, more in spans]
        at = text.find(" ", at + 1)
    return found


def _buckets(title: str) -> NDArray[np.int64]:
    """Hashes of a title's n-grams and words, each of which counts once."""
    text = _text(title)
    features = {*_grams(text), *_words(text)}
    return np.fromiter((zlib.crc32(each) % TITLE_BUCKETS for each in sorted(features)), np.int64)


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

    Words come again though titles do not: the weights of what is within a word are kept for the
    latest words, and only what goes over a space is looked up anew. Exact: the sum is rounded once,
    so that its order does not matter.
    """

    def __init__(self, weights: NDArray[np.float32]) -> None:
        self._weights = weights.data  # one number at a time; of an array that is slow
        self._kept = lru_cache(_KEPT_WORDS)(self._of_word)

    def __call__(self, title: str) -> float:
        """What the title alone says of the rating, about 0."""
        text = _text(title)
        found: _Weights = {}
        for word in text[1:-1].split(" "):
            found |= self._kept(word) if len(word) <= _LONGEST_KEPT else self._of_word(word)
        found |= self._of(_over_spaces(text))
        return fsum(found.values()) / sqrt(max(len(found), 1))

    def _of_word(self, word: str) -> _Weights:
        """The weight of all that is in a word between two spaces, or in two spaces alone."""
        return self._of([*_grams(f" {word} "), *_words(word)])

    def _of(self, features: Iterable[bytes]) -> _Weights:
        weights, crc32 = self._weights, zlib.crc32
        return {each: weights[crc32(each) % TITLE_BUCKETS] for each in features}
