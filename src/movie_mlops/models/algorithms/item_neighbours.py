"""Films that the same people watched: cosine between films, the nearest of each kept."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from movie_mlops.domain.errors import ArtifactCorruptError
from movie_mlops.models.algorithms.artifacts import checked, checked_positions, reading_card
from movie_mlops.models.algorithms.base import (
    Arrays,
    Card,
    FloatArray,
    IntArray,
    TrainingHistories,
)
from movie_mlops.models.algorithms.popularity import interaction_shares, without

_COLUMNS_AT_ONCE = 512
_TIE_BREAK = np.float32(1e-4)  # below any likeness that counts; orders what has none


class ItemNeighbours:
    """Score of film j = sum over watched films i of likeness(i, j), plus a breath of popularity.

    likeness = viewers of both / (sqrt(viewers of i x viewers of j) + shrink), kept for the
    `neighbours` films most alike to j. The order of the history does not matter.
    """

    name: ClassVar[str] = "item_neighbours"

    def __init__(self, neighbours: int = 50, shrink: float = 10.0) -> None:
        self._parameters = {"neighbours": neighbours, "shrink": shrink}
        none = np.empty(0, np.int32)
        self._set(
            np.empty(0, np.int64), np.empty(0, np.float32), np.zeros(1, np.int64), none,
            np.empty(0, np.float32),
        )  # fmt: skip

    def _set(
        self,
        movie_ids: IntArray,
        shares: FloatArray,
        indptr: IntArray,
        films: NDArray[np.int32],
        likeness: FloatArray,
    ) -> None:
        # Row i holds the films j whose list has i: what a watched film i adds to
        self.movie_ids, self.shares = movie_ids, shares
        self._indptr, self._films, self._likeness = indptr, films, likeness

    def fit(self, histories: TrainingHistories, seed: int = 0) -> Self:  # noqa: ARG002
        """Count pairs by a sparse product, some columns at a time."""
        # scipy.sparse is needed for training only; serving starts without it
        from scipy.sparse import csr_matrix, vstack  # noqa: PLC0415

        shares = interaction_shares(histories)
        films = histories.item_count
        viewers = csr_matrix(
            # sorted in place by the next line, so these must not be the histories themselves
            (np.ones(len(histories.items), np.float32), histories.items.copy(), histories.indptr),
            shape=(histories.user_count, films),
        )
        viewers.sum_duplicates()
        viewers.data[:] = 1
        by_film = viewers.T.tocsr()
        norms = np.sqrt(np.diff(by_film.indptr)).astype(np.float32)
        blocks = []
        for start in range(0, films, _COLUMNS_AT_ONCE):
            stop = min(start + _COLUMNS_AT_ONCE, films)
            alike = (by_film[start:stop] @ viewers).toarray()
            alike /= np.outer(norms[start:stop], norms) + np.float32(self._parameters["shrink"])
            alike[np.arange(stop - start), np.arange(start, stop)] = 0
            blocks.append(csr_matrix(self._nearest(alike)))
        lists = vstack(blocks).T.tocsr()
        lists.sort_indices()
        self._set(
            histories.movie_ids,
            shares,
            lists.indptr.astype(np.int64),
            lists.indices.astype(np.int32),
            lists.data.astype(np.float32),
        )
        return self

    def _nearest(self, alike: FloatArray) -> FloatArray:
        """The same rows with all but the largest values at 0; of equals, the first films stay."""
        most = int(self._parameters["neighbours"])
        if most >= alike.shape[1]:
            return alike
        order = np.argsort(-alike, axis=1, kind="stable")[:, most:]
        np.put_along_axis(alike, order, 0, axis=1)
        return alike

    def score(self, histories: Sequence[NDArray[np.integer[Any]]]) -> FloatArray:
        """Add up the lists of the watched films."""
        scores = np.tile(self.shares * _TIE_BREAK, (len(histories), 1))
        for place, history in enumerate(histories):
            for film in history:
                films, likeness = self._row(int(film))
                scores[place, films] += likeness
        return scores

    def _row(self, film: int) -> tuple[NDArray[np.int32], FloatArray]:
        chosen = slice(self._indptr[film], self._indptr[film + 1])
        return self._films[chosen], self._likeness[chosen]

    def contributions(self, history: NDArray[np.integer[Any]], item: int) -> FloatArray:
        """Each watched film's likeness to the item; the rest is popularity's tie-break."""
        found = np.zeros(len(history), np.float32)
        for place, film in enumerate(history):
            films, likeness = self._row(int(film))
            found[place] = likeness[films == item].sum()
        return found

    def similar(self, item: int) -> FloatArray:
        """Likeness, with popularity's order where there is none."""
        scores = self.shares * _TIE_BREAK
        films, likeness = self._row(item)
        scores[films] += likeness
        return without(scores, item)

    def artifact(self) -> tuple[Arrays, Card]:
        """The lists as sparse rows, popularity and vocabulary."""
        arrays: Arrays = {
            "movie_ids": self.movie_ids,
            "shares": self.shares,
            "indptr": self._indptr,
            "films": self._films,
            "likeness": self._likeness,
        }
        return arrays, {"algorithm": self.name, "parameters": self._parameters}

    @classmethod
    def from_artifact(cls, arrays: Mapping[str, NDArray[Any]], card: Card) -> Self:
        """Rebuild; see the protocol."""
        with reading_card(cls.name):
            model = cls(**card["parameters"])
        movie_ids = checked(arrays, "movie_ids", (None,))
        shares = checked(arrays, "shares", (len(movie_ids),))
        indptr = checked(arrays, "indptr", (len(movie_ids) + 1,))
        likeness = checked(arrays, "likeness", (int(indptr[-1]),))
        films = checked_positions(arrays, "films", (len(likeness),), len(movie_ids))
        if indptr[0] != 0 or (np.diff(indptr) < 0).any():
            message = "array 'indptr' is not a list of ascending starts"
            raise ArtifactCorruptError(message)
        model._set(movie_ids, shares, indptr, films, likeness)
        return model
