"""What films are like by what is known of them: genres, era, people, words. No viewer needed."""

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from movie_mlops.models.algorithms.base import FloatArray, IntArray
from movie_mlops.models.serving.catalogue import Catalogue

BUDGET_BYTES = 32 << 20
"""What the features of all films may take; with many films each keeps its weightiest."""
MOST_FEATURES = 32
BUCKETS = 1 << 18  # that features are hashed to; two in one bucket are rare and do little harm
_ROWS_AT_ONCE = 20_000
_ENTRY_BYTES = 8
_YEARS = 5
_WORD = r"\p{L}{3,}|\p{N}{2,}"


@dataclass(frozen=True, slots=True)
class Field:
    """A source of features: what it says of a film, and how much that counts."""

    name: str
    values: pl.Expr
    weight: float


def _words(*columns: str) -> pl.Expr:
    text = pl.concat_str([pl.col(name).fill_null("") for name in columns], separator=" ")
    return text.str.to_lowercase().str.extract_all(_WORD).list.unique()


_ERA = pl.col("year").cast(pl.Int64) // _YEARS
FIELDS = (
    Field("genre", pl.col("genres"), 1.0),
    Field("director", pl.col("directors"), 1.0),
    Field("cast", pl.col("cast"), 0.7),
    Field("title", _words("title_en", "title_ko", "original_title"), 0.7),
    # neighbouring eras share one of their two
    Field("era", pl.concat_list(_ERA, _ERA + 1).cast(pl.List(pl.String)), 0.25),
    Field("overview", _words("overview"), 0.25),
)
"""Weights chosen by hand: a shared rare word says less than a shared genre or director."""


class ContentIndex:
    """Hashed features of every film of one catalogue, weighted by rarity; rows have length 1."""

    def __init__(self, frame: pl.DataFrame) -> None:
        """Read a movies table that is sorted by film id."""
        self.movie_ids: IntArray = frame["movie_id"].to_numpy().astype(np.int64)
        films = len(self.movie_ids)
        most = min(MOST_FEATURES, max(BUDGET_BYTES // (_ENTRY_BYTES * max(films, 1)), 1))
        self._columns = np.zeros((films, most), np.int32)
        self._values = np.zeros((films, most), np.float32)
        counts = np.zeros(BUCKETS, np.int64)
        for start in range(0, films, _ROWS_AT_ONCE):
            _, buckets, _ = _features(frame[start : start + _ROWS_AT_ONCE])
            counts += np.bincount(buckets, minlength=BUCKETS)
        # what one film alone has makes it like no other
        rarity = np.where(counts > 1, np.log(1 + films / np.maximum(counts, 1)), 0)
        for start in range(0, films, _ROWS_AT_ONCE):
            rows, buckets, weights = _features(frame[start : start + _ROWS_AT_ONCE])
            self._fill(start, rows, buckets, weights * rarity.astype(np.float32)[buckets])

    def _fill(self, start: int, rows: IntArray, buckets: IntArray, weights: FloatArray) -> None:
        order = np.lexsort((buckets, -weights, rows))
        rows, buckets, weights = rows[order], buckets[order], weights[order]
        place = np.arange(len(rows)) - np.searchsorted(rows, rows)
        kept = place < self._columns.shape[1]
        at = (start + rows[kept], place[kept])
        self._columns[at], self._values[at] = buckets[kept], weights[kept]
        own = self._values[start : start + _ROWS_AT_ONCE]
        own /= np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-12)

    def likeness(self, movie_id: int) -> FloatArray:
        """Cosine 0 ... 1 of every film [films] to this one, which the index must have."""
        row = int(np.searchsorted(self.movie_ids, movie_id))
        wanted = np.zeros(BUCKETS, np.float32)
        np.add.at(wanted, self._columns[row], self._values[row])
        terms = wanted.take(self._columns, mode="clip")
        terms *= self._values
        found: FloatArray = terms.sum(axis=1)
        return found

    @property
    def nbytes(self) -> int:
        """Bytes of the features."""
        return self._columns.nbytes + self._values.nbytes


class Content:
    """The index of the catalogue as it is now, made when first asked for."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._made: tuple[int, ContentIndex] | None = None
        self._lock = threading.Lock()

    def index(self) -> ContentIndex:
        """The index; making it takes some ten microseconds per film."""
        with self._lock:
            version = self._catalogue.version
            if self._made is None or self._made[0] != version:
                self._made = version, ContentIndex(self._catalogue.frame)
            return self._made[1]


def _features(frame: pl.DataFrame) -> tuple[IntArray, IntArray, FloatArray]:
    """Row, bucket and weight of every feature of these films; each once per film and field."""
    numbered = frame.with_row_index("row")
    parts = []
    for seed, of in enumerate(FIELDS):
        values = numbered.select("row", value=of.values).explode("value").drop_nulls("value")
        values = values.filter(pl.col("value") != "").unique(maintain_order=True)
        # polars' own hash may differ between releases; nothing of this is ever stored
        bucket = pl.col("value").hash(seed) % BUCKETS
        parts.append(values.select(pl.col("row").cast(pl.Int64), bucket.cast(pl.Int64).alias("at"),
                                   pl.lit(of.weight, pl.Float32).alias("weight")))  # fmt: skip
    table: Any = pl.concat(parts)
    rows: NDArray[np.int64] = table["row"].to_numpy()
    return rows, table["at"].to_numpy(), table["weight"].to_numpy()
