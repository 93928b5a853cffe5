"""The films most like one film: by who watches them, or by what is known of them."""

from typing import Literal

import numpy as np

from movie_mlops.domain.movies import MovieId
from movie_mlops.domain.recommendations import ScoredMovie
from movie_mlops.domain.versions import MOVIE_RECOMMENDER
from movie_mlops.models.algorithms.base import Recommender
from movie_mlops.models.serving.catalogue import Catalogue
from movie_mlops.models.serving.content import Content
from movie_mlops.models.serving.model_loader import LoadedModel, ModelLoader
from movie_mlops.models.serving.ranking import Shown, best_of, positions

By = Literal["model", "content"]
"""What likeness is measured by: who watched the films, or what is known of them."""


class SimilarFilms:
    """Likeness by the champion and by the catalogue."""

    def __init__(self, loader: ModelLoader, catalogue: Catalogue, content: Content) -> None:
        self._loader, self._catalogue, self._content = loader, catalogue, content
        self._shown = Shown(catalogue)

    def of(
        self, movie_id: MovieId, k: int, by: By | None = None
    ) -> tuple[By, tuple[ScoredMovie, ...]]:
        """What the likeness was measured by, and at most `k` films, the most like first.

        `by` decides; None: by the model, by content where it does not know the film.

        Raises:
            MovieNotFoundError: the catalogue has no such film.
        """
        self._catalogue.get(movie_id)
        loaded = self._loader.get(MOVIE_RECOMMENDER)
        if by != "content":
            found = self._similar_by_model(loaded, movie_id, k) if loaded is not None else ()
            if found or by is not None:
                return "model", found
        return "content", self._similar_by_content(movie_id, k)

    def _similar_by_model(
        self, loaded: LoadedModel, movie_id: MovieId, k: int
    ) -> tuple[ScoredMovie, ...]:
        model: Recommender = loaded.model
        at = positions(model, np.array([movie_id]))
        if not at.size:
            return ()
        likeness = np.array(model.similar(int(at[0])))
        self._shown.hide(likeness, loaded, at)
        best = [row for row in best_of(likeness, k) if likeness[row] > 0]
        return tuple(
            ScoredMovie(MovieId(int(model.movie_ids[row])), float(likeness[row])) for row in best
        )

    def _similar_by_content(self, movie_id: MovieId, k: int) -> tuple[ScoredMovie, ...]:
        index = self._content.index()
        likeness = index.likeness(movie_id)
        likeness[np.searchsorted(index.movie_ids, movie_id)] = -np.inf
        order = np.lexsort((self._catalogue.ranks(index.movie_ids), -likeness))[:k]
        best = order[np.isfinite(likeness[order])]
        return tuple(map(ScoredMovie, index.movie_ids[best].tolist(), likeness[best].tolist()))
