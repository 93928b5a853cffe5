"""Drawn posters: small, safe, deterministic, different, readable."""

import random
import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from movie_mlops.data.processors.poster_scenes import SCENES
from movie_mlops.data.processors.posters import _PALETTES, _colours, _contrast, draw_poster
from movie_mlops.domain.movies import GENRES, Movie, MovieId


def film(number: int = 1, **changed: object) -> Movie:
    rng = random.Random(number)  # noqa: S311 - no secret
    values = {
        "movie_id": MovieId(number), "title": "강이 간직한 것", "title_en": "What the River Kept",
        "title_ko": "강이 간직한 것", "year": rng.randint(1930, 2026),
        "genres": (rng.choice(GENRES),), "runtime": 100, "overview": None,
        "directors": ("Baek Ga-on",), "cast": (), "vote_average": None, "vote_count": 0,
        "popularity": 0.0, "poster_url": None, **changed,
    }  # fmt: skip
    return Movie(**values)  # type: ignore[arg-type]


def test_every_poster_is_small_well_formed_and_free_of_the_outside() -> None:
    for number in range(1, 600):
        svg = draw_poster(film(number), "en" if number % 2 else "ko")
        assert len(svg.encode()) < 4096
        ET.fromstring(svg)  # noqa: S314 - our own
        assert not re.search(r"<script|<image|href|@import|http://(?!www\.w3\.org)", svg)


def test_the_same_film_gives_the_same_picture_in_both_languages() -> None:
    korean, english = draw_poster(film(5), "ko"), draw_poster(film(5), "en")
    assert korean == draw_poster(film(5), "ko")
    assert "강이 간직한 것"[:2] in korean
    assert "river" in english.lower()
    shapes = re.compile(r"<(?:path|circle|rect) [^>]*>")
    assert shapes.findall(korean) == shapes.findall(english)


def test_thirty_posters_are_thirty_pictures() -> None:
    shapes = re.compile(r"<(?:path|circle|rect) [^>]*>")
    drawn = {"".join(shapes.findall(draw_poster(film(n), "ko"))) for n in range(1, 31)}
    assert len(drawn) == 30
    assert len(SCENES) >= 8


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80), st.integers(1, 2**53 - 1))
def test_any_title_gives_a_whole_picture(title: str, number: int) -> None:
    clean = "".join(letter for letter in title if letter.isprintable())
    svg = draw_poster(film(number, title=clean, title_ko=None, title_en=clean), "ko")
    assert ET.fromstring(svg).tag.endswith("svg")  # noqa: S314 - our own


@pytest.mark.parametrize("title", ["아주" * 8 + "긴제목하나", "Supercalifragilistic " * 4])
def test_long_titles_stay_on_the_sheet(title: str) -> None:
    svg = draw_poster(film(3, title_ko=title, year=2020), "ko")
    size = float(re.search(r'<text font-size="([\d.]+)"', svg)[1])  # type: ignore[index]
    longest = max(re.findall(r"<tspan[^>]*>([^<]*)", svg), key=len)
    assert size * len(longest) * (1.0 if "아" in title else 0.5) <= 200


def test_titles_are_readable_on_every_ground() -> None:
    for palettes in _PALETTES.values():
        for packed in palettes:
            colours = _colours(packed)
            for draw in SCENES.values():
                for seed in range(12):
                    ground = draw(random.Random(seed), colours).ground  # noqa: S311
                    inks = (colours.light, colours.dark, "#fff", "#000")
                    assert max(_contrast(ink, ground) for ink in inks) >= 4.5
