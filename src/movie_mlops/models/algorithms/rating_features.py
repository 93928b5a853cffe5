"""Features of a film for rating prediction, the same in training and in serving."""

import re
import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import lsqr

from movie_mlops.domain.movies import GENRES
from movie_mlops.models.algorithms.base import RatingRows

TITLE_BUCKETS = 1 << 17
_GRAMS = (2, 3, 4, 5)
_SEQUEL = re.compile(r"\b(?:[2-9]|II|III|IV|V|VI|Part|Chapter|Returns?)\b", re.IGNORECASE)
_GENRE_PLACE = {name: place for place, name in enumerate(GENRES)}

BASIC_COLUMNS = ("start_year", "runtime_minutes", "num_votes")
"""The guide's three."""

COLUMNS = (
    "start_year", "runtime_minutes", "log_votes", "votes_per_year", "age", "genre_count",
    "first_genre", "decade", "adult", "title_length", "title_words", "title_digits",
    "title_foreign", "title_colon", "title_sequel", "title_differs",
    *(f"genre_{name}" for name in GENRES),
)  # fmt: skip


def basic_features(rows: RatingRows) -> NDArray[np.float64]:
    """The guide's three columns, shape [rows, 3]."""
    return np.column_stack([rows.start_year, rows.runtime_minutes, rows.num_votes])


def film_features(rows: RatingRows, now: float) -> NDArray[np.float64]:
    """All columns of COLUMNS, shape [rows, columns]; `now` is the year that ages count from."""
    age = np.maximum(now - rows.start_year, 0.5)
    titles = [_title_features(title) for title in rows.title]
    names = zip(rows.title, rows.original_title, strict=True)
    differs = [bool(original) and title != original for title, original in names]
    genres = np.zeros((len(rows), len(GENRES)))
    first = np.full(len(rows), np.nan)
    for place, names_of in enumerate(rows.genres):
        known = [_GENRE_PLACE[name] for name in names_of if name in _GENRE_PLACE]
        genres[place, known] = 1.0
        if known:
            first[place] = known[0]
    return np.column_stack(
        [
            rows.start_year,
            rows.runtime_minutes,
            np.log1p(rows.num_votes),
            np.log1p(rows.num_votes / age),
            age,
            genres.sum(axis=1),
            first,
            np.floor(rows.start_year / 10),
            rows.adult,
            np.array(titles).reshape(len(rows), -1),
            differs,
            genres,
        ]
    ).astype(np.float64)


def _title_features(title: str) -> tuple[float, ...]:
    return (
        len(title),
        len(title.split()),
        sum(sign.isdigit() for sign in title),
        sum(not sign.isascii() for sign in title),
        ":" in title,
        bool(_SEQUEL.search(title[1:])),
    )


@lru_cache(maxsize=4_096)
def _buckets(title: str) -> NDArray[np.int64]:
    """Hashed character n-grams and words of a title."""
    text = f" {title.casefold()[:200]} "
    grams = {text[at : at + size] for size in _GRAMS for at in range(len(text) - size + 1)}
    grams |= {f"word {word}" for word in text.split()}
    hashes = (zlib.crc32(gram.encode()) % TITLE_BUCKETS for gram in sorted(grams))
    return np.fromiter(hashes, np.int64)


def title_texts(rows: RatingRows) -> list[str]:
    """The title, with the original one behind it where that differs: it tells the language."""
    names = zip(rows.title, rows.original_title, strict=True)
    return [
        f"{title} / {original}" if original and original != title else title
        for title, original in names
    ]


def genre_masks(rows: RatingRows) -> NDArray[np.int64]:
    """Each film's set of genres as one number, shape [rows]."""
    masks = [sum(1 << _GENRE_PLACE[name] for name in {*of} & {*GENRES}) for of in rows.genres]
    return np.array(masks, np.int64)


def title_matrix(titles: Sequence[str]) -> sparse.csr_matrix:
    """Rows of unit length over the hashed n-grams, shape [titles, TITLE_BUCKETS]."""
    found = [_buckets.__wrapped__(title) for title in titles]
    sizes = np.array([len(each) for each in found], np.int64)
    indptr = np.concatenate([[0], np.cumsum(sizes)])
    indices = np.concatenate(found) if found else np.empty(0, np.int64)
    data = np.repeat(1 / np.sqrt(np.maximum(sizes, 1)), sizes)
    return sparse.csr_matrix((data, indices, indptr), shape=(len(found), TITLE_BUCKETS))


def title_scores(titles: Sequence[str], weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """What the titles alone say of the rating, about 0, shape [titles]."""
    return np.array(
        [float(weights[_buckets(title)].sum()) / np.sqrt(len(_buckets(title))) for title in titles]
    )


def fit_title_weights(
    matrix: sparse.csr_matrix, residuals: NDArray[np.float64], strength: float
) -> NDArray[np.float32]:
    """Ridge weights of the n-grams on residuals of mean 0, shape [TITLE_BUCKETS]."""
    solution = lsqr(matrix, residuals, damp=np.sqrt(strength), iter_lim=60)[0]
    weights: NDArray[np.float32] = solution.astype(np.float32)
    return weights
