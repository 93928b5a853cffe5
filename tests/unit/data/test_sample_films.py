"""The invented catalogue: deterministic, varied, in TMDB's shape."""

import re
import time
from collections import Counter
from pathlib import Path

import pytest

from movie_mlops.data.crawlers.base import no_progress
from movie_mlops.data.crawlers.sample import SampleCrawler
from movie_mlops.data.lake import Lake
from movie_mlops.data.processors.sample_films import invent_films
from movie_mlops.data.processors.sample_words import stories, with_particles
from movie_mlops.data.tables import MOVIES
from movie_mlops.domain.movies import GENRES

FILMS = invent_films(1000, 42)


def english(film: dict, part: str) -> str:  # type: ignore[type-arg]
    return str(film["translations"]["translations"][1]["data"][part])


def test_the_same_seed_gives_the_same_films() -> None:
    started = time.process_time()
    assert invent_films(1000, 42) == FILMS
    assert time.process_time() - started < 5
    assert invent_films(1000, 43) != FILMS


def test_ids_are_the_guides_and_no_title_or_plot_comes_twice() -> None:
    assert [film["id"] for film in FILMS] == list(range(1, 1001))
    for texts in (
        [film["title"] for film in FILMS],
        [english(film, "title").lower() for film in FILMS],
        [film["overview"] for film in FILMS],
        [english(film, "overview") for film in FILMS],
    ):
        assert len(set(texts)) == 1000


def test_no_slot_or_particle_is_left_open() -> None:
    for film in FILMS:
        for text in (film["title"], film["overview"], english(film, "title"),
                     english(film, "overview")):  # fmt: skip
            assert text
            assert not re.search(r"[{}~|\[\]]", text), text
        assert re.search("[가-힣]", film["overview"])


def test_every_choice_has_as_many_options_in_both_languages() -> None:
    for genre, words in stories().items():
        assert genre in GENRES
        for plot in words["-"]:
            assert plot.ko, plot.en
            for letter in "xyz":
                counts = {
                    found.count("~")
                    for text in (plot.en, plot.ko)
                    for found in re.findall(rf"\{{{letter}:((?:[^{{}}]|\{{\w\}})*)\}}", text)
                }
                assert len(counts) <= 1, plot.en


def test_people_have_careers_and_the_spread_is_believable() -> None:
    directors = Counter(film["credits"]["crew"][0]["name"] for film in FILMS)
    actors = Counter(person["name"] for film in FILMS for person in film["credits"]["cast"])
    assert 80 < len(directors) < 400
    assert directors.most_common(1)[0][1] < 60
    assert sum(count >= 3 for count in actors.values()) > 200
    years = [int(film["release_date"][:4]) for film in FILMS]
    assert min(years) < 1950
    assert max(years) == 2026
    assert 0.3 < sum(year >= 2010 for year in years) / 1000 < 0.6
    ratings = [film["vote_average"] for film in FILMS if film["vote_count"]]
    assert 5.8 < sum(ratings) / len(ratings) < 6.8
    assert min(ratings) < 4.5
    assert max(ratings) > 8
    assert len({film["credits"]["cast"][0]["name"] for film in FILMS[:30]}) > 10


def test_the_crawler_stages_a_table_that_passes_whole(tmp_path: Path) -> None:
    lake, crawler = Lake(tmp_path), SampleCrawler(films=120, seed=1)
    crawler.fetch(lake.raw("sample"), no_progress)
    with lake.connect() as connection:
        assert crawler.stage(lake.raw("sample"), connection) == ("movies",)
        report = lake.replace(MOVIES, connection)
    assert (report.rows_in, report.rows_out) == (120, 120)
    table = lake.read("movies")
    for column in ("title_en", "title_ko", "overview", "overview_en", "year", "runtime"):
        assert table[column].null_count() == 0
    assert table["directors"].list.len().min() == 1


@pytest.mark.parametrize(
    ("text", "resolved"),
    [("밤[은]", "밤은"), ("나무[은]", "나무는"), ("서울[으로]", "서울로"),
     ("부산[으로]", "부산으로"), ("물[과] 불[을]", "물과 불을"), ("고양이[이]", "고양이가"),
     ("7[을]", "7을"), ("Q[은]", "Q는")],
)  # fmt: skip
def test_korean_particles_fit_the_sound_before(text: str, resolved: str) -> None:
    assert with_particles(text) == resolved
