"""A film that came after the training is shown at once, for the films that it is like."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.houses import START, interactions, movies, serve

from movie_mlops.domain.interactions import Interaction, InteractionType, UserId
from movie_mlops.domain.movies import MovieId
from movie_mlops.domain.versions import MOVIE_RECOMMENDER
from movie_mlops.models.algorithms import load
from movie_mlops.models.serving.catalogue import Catalogue
from movie_mlops.models.serving.cold_start import MOST_NEW, ONE_IN
from movie_mlops.models.serving.histories import Histories
from movie_mlops.models.serving.model_loader import ModelLoader
from movie_mlops.models.serving.recommender import RecommendationService, Wish

LENGTH, NEW, TWIN = 50, 77, 7


def films(*new: int, like: int = TWIN) -> pl.DataFrame:
    """The small house's films, and new ones that say of themselves what `like` says."""
    frame = movies()
    more = [
        frame.filter(movie_id=like).with_columns(
            movie_id=pl.lit(number, pl.Int64), title_en=pl.lit(f"Newly Made {number}")
        )
        for number in new
    ]
    return pl.concat([frame, *(each.select(frame.columns) for each in more)])


class House:
    """The small house, whose catalogue may grow."""

    def __init__(self, serving: Path) -> None:
        self.tables = [movies()]
        self.loader = ModelLoader(serving, load)
        self.loader.reload()
        self.histories = Histories.from_frame(interactions(), LENGTH)
        self.catalogue = Catalogue(lambda: self.tables[-1])
        self.service = RecommendationService(self.loader, self.histories, self.catalogue)
        self.service.prepare()

    def furnish(self, frame: pl.DataFrame) -> None:
        self.tables.append(frame)
        self.catalogue.reload()
        self.service.prepare()

    def like(self, user: str, *liked: int) -> None:
        for film in liked:
            number = f"{user}-{film}"
            self.histories.apply(
                Interaction(number, UserId(user), MovieId(film), InteractionType.LIKE, START)
            )

    def listed(self, user: str, k: int = 10) -> list[int]:
        return [item.movie_id for item in self.service.recommend(UserId(user), k).items]


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serving")
    serve(folder)
    return folder


@pytest.fixture
def house(serving: Path) -> House:
    return House(serving)


def neighbours(house: House) -> list[int]:
    """The films that the new one is most like by content."""
    _, found = house.service.likeness.of(MovieId(NEW), 5, "content")
    return [film.movie_id for film in found]


def test_a_new_film_is_like_its_twin_and_has_a_list_of_its_own(house: House) -> None:
    house.furnish(films(NEW))
    by, found = house.service.likeness.of(MovieId(TWIN), 3, "content")
    assert (by, found[0].movie_id) == ("content", NEW)
    assert found[0].score > 0.8
    by, found = house.service.likeness.of(MovieId(NEW), 5)
    assert (by, len(found), found[0].movie_id) == ("content", 5, TWIN)
    assert house.service.likeness.of(MovieId(NEW), 5, "model") == ("model", ())
    by, found = house.service.likeness.of(MovieId(TWIN), 5)
    assert by == "model"
    assert NEW not in {film.movie_id for film in found}


def test_who_watched_its_neighbours_is_recommended_it_at_once(house: House) -> None:
    house.furnish(films(NEW))
    house.like("fan", *neighbours(house))
    made = house.service.recommend(UserId("fan"), 10)
    item = next(item for item in made.items if item.movie_id == NEW)
    assert made.path == "personal"
    assert item.new_like in item.because
    assert set(item.because) <= set(house.histories.of("fan").films.tolist())
    scores = [one.score for one in made.items]
    assert scores == sorted(scores, reverse=True)
    assert len(made.items) == len(set(house.listed("fan"))) == 10
    house.like("fan", NEW)
    assert NEW not in house.listed("fan")


def test_a_list_that_was_made_before_is_made_again(house: House) -> None:
    house.like("fan", *range(1, 20, 2))
    before = house.service.stamp(UserId("fan"))
    assert NEW not in house.listed("fan")
    house.furnish(films(NEW))
    assert house.service.stamp(UserId("fan")) != before
    assert set(house.listed("fan")) >= {NEW} or NEW not in house.listed("fan", 9)


def test_new_films_take_one_place_in_ten_at_most(house: House) -> None:
    many = range(100, 100 + MOST_NEW + 20)
    house.furnish(films(*many))
    house.like("fan", *neighbours_of(house, 100))
    for k in (1, 9, 10, 19, 20, 30):
        listed = house.listed("fan", k)
        assert len(listed) == len(set(listed)) == k
        assert sum(film >= 100 for film in listed) <= k // ONE_IN
    assert sum(film >= 100 for film in house.listed("fan", 20)) >= 1


def neighbours_of(house: House, film: int) -> list[int]:
    _, found = house.service.likeness.of(MovieId(film), 300, "content")
    return [one.movie_id for one in found if one.movie_id < 100][:5]


def test_newcomers_and_films_like_no_other_leave_the_list_as_it_is(house: House) -> None:
    house.like("fan", *range(1, 12, 2))
    lists = house.listed("fan"), house.listed("nobody")
    bare = movies().filter(movie_id=TWIN).with_columns(
        movie_id=pl.lit(NEW, pl.Int64), genres=pl.lit([], pl.List(pl.String)),
        **{name: pl.lit(None, movies().schema[name]) for name in
           ("title_en", "title_ko", "original_title", "overview", "directors", "cast", "year")},
    )  # fmt: skip
    house.furnish(pl.concat([movies(), bare.select(movies().columns)]))
    assert (house.listed("fan"), house.listed("nobody")) == lists
    house.furnish(films(NEW))
    assert house.listed("nobody") == lists[1]


def test_with_the_dial_up_there_are_no_new_films(house: House) -> None:
    house.furnish(films(NEW))
    house.like("fan", *neighbours(house))
    made = house.service.list_as_wished(UserId("fan"), 10, Wish(diversity=0.3))
    assert NEW not in {item.movie_id for item in made.items}
    assert len(made.items) == 10


def test_a_film_that_left_the_catalogue_is_nobodys_neighbour(house: House) -> None:
    house.furnish(films(NEW).filter(pl.col("movie_id") != TWIN))
    loaded = house.loader.get(MOVIE_RECOMMENDER)
    assert loaded is not None
    found = house.service._new.of(loaded)
    assert found is not None
    assert TWIN not in np.asarray(loaded.model.movie_ids)[found.near]
