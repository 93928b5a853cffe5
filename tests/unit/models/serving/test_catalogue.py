"""The catalogue in memory: get, search, pages, popularity, likeness by genre."""

import numpy as np
import polars as pl
import pytest
from tests.houses import FILMS, movies, people

from movie_mlops.domain.errors import MovieNotFoundError
from movie_mlops.domain.movies import GENRES
from movie_mlops.models.serving.catalogue import Catalogue, People

NOTHING = np.empty(0, np.int64)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue(movies)


def test_a_film_has_everything_the_page_shows(catalogue: Catalogue) -> None:
    film = catalogue.get(5)
    assert (film.title_ko, film.title_en) == ("영화 5", "The Film 5")
    assert film.genres == ("Comedy", "Action")
    assert film.directors == ("A. Director",)
    assert catalogue.get(5) is film
    assert 5 in catalogue
    assert 10**9 not in catalogue
    with pytest.raises(MovieNotFoundError, match="/api/v1/movies"):
        catalogue.get(10**9)


def test_titles_are_those_of_the_language_or_the_film_s_own(catalogue: Catalogue) -> None:
    assert [catalogue.title(5, "en"), catalogue.title(5, "ko")] == ["The Film 5", "영화 5"]
    assert catalogue.title(10**9, "en") is None
    own = movies().with_columns(title_en=pl.lit(None, pl.String), title_ko=pl.lit(""))
    nameless = Catalogue(lambda: own)
    for film in own["movie_id"].to_list():
        title = nameless.get(film).title
        assert {nameless.title(film, "en"), nameless.title(film, "ko")} == {title}


def test_pages_visit_every_film_once(catalogue: Catalogue) -> None:
    seen: list[int] = []
    while page := catalogue.page(seen[-1] if seen else 0, 7):
        seen += [film.movie_id for film in page]
    assert seen == list(range(1, FILMS + 1))


@pytest.mark.parametrize("text", ["film 7", "FILM 7", "영화 7", " 영화 7 "])
def test_titles_are_found_in_both_languages(catalogue: Catalogue, text: str) -> None:
    assert catalogue.search(text, 10)[0].movie_id == 7


def test_titles_that_begin_with_the_text_come_first() -> None:
    frame = movies(6).with_columns(
        title_en=pl.Series(["X Star", "Starlight", "Night", "A STAR", "Starfish", None])
    )
    found = Catalogue(lambda: frame).search("star", 10)
    assert [film.movie_id for film in found] == [2, 5, 1, 4]


@pytest.mark.parametrize("text", ["", "   ", "nothing like it", "(", "%", "\x00"])
def test_odd_searches_find_nothing(catalogue: Catalogue, text: str) -> None:
    assert catalogue.search(text, 10) == []


def test_decomposed_hangul_finds_the_same_film() -> None:
    frame = movies(3).with_columns(title_ko=pl.Series(["가을", "겨울", "봄"]))
    assert [film.movie_id for film in Catalogue(lambda: frame).search("가을", 5)] == [1]


def test_the_popular_films_come_in_order_without_the_hidden(catalogue: Catalogue) -> None:
    assert [film.movie_id for film in catalogue.popular(3, np.array([1, 3]))] == [2, 4, 5]
    assert catalogue.popular(3, np.arange(FILMS + 1)) == []
    assert len(catalogue.popular(1000, NOTHING)) == FILMS


def test_genres_as_films_mixes_and_counts(catalogue: Catalogue) -> None:
    comedies = catalogue.of_genre("Comedy")
    assert {1, 3, 5} <= set(comedies.tolist())
    assert catalogue.genre_counts()["Comedy"] == len(comedies)
    assert "Western" not in catalogue.genre_counts()
    mixes = catalogue.genre_mixes(np.array([1, 999_999]))
    assert mixes.sum(axis=1).tolist() == [1.0, 0.0]
    assert mixes[0, GENRES.index("Comedy")] == 0.5


def test_the_latest_films_come_first_and_of_a_year_the_popular_ones(catalogue: Catalogue) -> None:
    years = [catalogue.get(film).year or 0 for film in catalogue.latest.tolist()]
    assert years == sorted(years, reverse=True)
    assert catalogue.ranks(np.array([1, 2, FILMS])).tolist() == [0, 1, FILMS - 1]


def test_a_table_that_is_not_there_yet_is_an_empty_catalogue() -> None:
    tables: list[pl.DataFrame | None] = [None]
    catalogue, viewers = Catalogue(lambda: tables[0]), People(people)
    assert len(catalogue) == 0
    assert catalogue.search("x", 3) == []
    assert catalogue.popular(3, NOTHING) == []
    tables[0] = movies(5)
    version = catalogue.version
    catalogue.reload()
    assert len(catalogue) == 5
    assert catalogue.version == version + 1
    tables[0] = None
    catalogue.reload()
    assert len(catalogue) == 5
    assert [viewer.name_ko for viewer in viewers.all] == ["에이다", "보"]
