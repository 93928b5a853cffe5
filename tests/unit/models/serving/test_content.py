"""Likeness by what is known of films: twins first, bounded memory."""

import numpy as np
import polars as pl
import pytest
from tests.houses import FILMS, movies

from movie_mlops.models.serving import content
from movie_mlops.models.serving.catalogue import Catalogue
from movie_mlops.models.serving.content import Content, ContentIndex


def with_a_twin_of(film: int, number: int) -> pl.DataFrame:
    """The small house's films, and one more that differs from `film` in its id alone."""
    frame = movies()
    twin = frame.filter(movie_id=film).with_columns(movie_id=pl.lit(number, pl.Int64))
    return pl.concat([frame, twin.cast(dict(frame.schema))]).sort("movie_id")


def test_a_twin_is_most_like_its_twin() -> None:
    index = ContentIndex(with_a_twin_of(7, 99))
    likeness = index.likeness(99)
    assert likeness.dtype == np.float32
    places = {
        int(film): float(alike) for film, alike in zip(index.movie_ids, likeness, strict=True)
    }
    assert places[7] == pytest.approx(1.0)
    assert places[99] == pytest.approx(1.0)
    others = [alike for film, alike in places.items() if film not in (7, 99)]
    assert max(others) < 0.95
    assert min(others) >= 0
    assert np.isclose(index.likeness(7)[-1], likeness[6])  # as like one way as the other


def test_the_same_genres_are_more_alike_than_others() -> None:
    index = ContentIndex(movies())
    likeness = index.likeness(6)  # an even one: war and adventure
    same = [likeness[film - 1] for film in (16, 26, 36)]
    other = [likeness[film - 1] for film in (3, 5, 9)]
    assert min(same) > max(other)


def test_a_film_of_which_nothing_is_known_is_like_no_other() -> None:
    bare = movies().with_columns(
        [pl.lit(None).cast(dtype).alias(name) for name, dtype in movies().schema.items()
         if name in ("title_en", "title_ko", "original_title", "year", "genres", "overview",
                     "directors", "cast")]
    )  # fmt: skip
    assert ContentIndex(bare).likeness(3).tolist() == [0.0] * FILMS
    assert len(ContentIndex(movies().head(0)).movie_ids) == 0


def test_features_fit_the_budget_and_parts_make_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ContentIndex(movies())
    monkeypatch.setattr(content, "_ROWS_AT_ONCE", 7)
    parts = ContentIndex(movies())
    np.testing.assert_allclose(parts.likeness(5), whole.likeness(5), rtol=1e-6)
    monkeypatch.setattr(content, "BUDGET_BYTES", 8 * FILMS * 3)
    small = ContentIndex(movies())
    assert small.nbytes <= 8 * FILMS * 3
    assert small.likeness(5)[4] == pytest.approx(1.0)


def test_the_index_follows_the_catalogue() -> None:
    tables = [movies()]
    catalogue = Catalogue(lambda: tables[-1])
    made = Content(catalogue)
    assert made.index() is made.index()
    tables.append(with_a_twin_of(7, 99))
    catalogue.reload()
    assert 99 in made.index().movie_ids
