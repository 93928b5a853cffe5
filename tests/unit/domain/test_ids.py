import pytest
from hypothesis import given
from hypothesis import strategies as st

from movie_mlops.domain.errors import InvalidIdError
from movie_mlops.domain.interactions import InteractionType, hides_film, is_positive, parse_user_id
from movie_mlops.domain.movies import MAX_MOVIE_ID, parse_movie_id


@given(st.integers(1, MAX_MOVIE_ID))
def test_every_spelling_of_a_film_id_is_the_same_film(number: int) -> None:
    spellings = (number, str(number), f"movie_{number}", f"movie_{number:03d}")
    assert {parse_movie_id(text) for text in spellings} == {number}


@pytest.mark.parametrize(
    "text", ["", "0", 0, -1, "1.5", "movie_", "film_1", "٣", 2**53, "9" * 40, True, "1\n", "../1"]
)
def test_no_film_id(text: int | str) -> None:
    with pytest.raises(InvalidIdError):
        parse_movie_id(text)


@pytest.mark.parametrize("text", [1, "1", "user_1", "user_001", "001"])
def test_numbered_users_are_one_user(text: int | str) -> None:
    assert parse_user_id(text) == "1"


@pytest.mark.parametrize("text", [0, "000", "user_0", "user_00"])
def test_zero_is_a_number_too(text: int | str) -> None:
    assert parse_user_id(text) == "0"


@pytest.mark.parametrize(
    "text",
    [
        "user_",
        "user_user_1",
        "user_٣",
        "1²",
        "-1",
        "test_user_001",
        "유저",
        "a/b",
        "../x",
        "user_x",
        "%00",
    ],
)
def test_other_texts_are_their_own_user(text: str) -> None:
    assert parse_user_id(text) == text


@pytest.mark.parametrize("text", ["", "x" * 129, "a\nb", "a\x00", "\r\nX: y"])
def test_no_user_id(text: str) -> None:
    with pytest.raises(InvalidIdError):
        parse_user_id(text)


def test_what_trains_and_what_hides() -> None:
    kinds = InteractionType
    positive = {kind for kind in kinds if is_positive(kind, 3.0)}
    assert positive == {kinds.WATCH, kinds.LIKE, kinds.RATING}
    assert not is_positive(kinds.RATING, 2.5)
    hiding = {kind for kind in kinds if hides_film(kind)}
    assert hiding == {kinds.WATCH, kinds.LIKE, kinds.RATING, kinds.DISLIKE}
