"""Token buckets, reasons in two languages, the table of HTTP codes."""

import inspect

import pytest

from movie_mlops.api.dependencies import TokenBuckets
from movie_mlops.api.errors import STATUS, status_of
from movie_mlops.api.routers.recommendations import reason_text
from movie_mlops.domain import errors as house


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    buckets = TokenBuckets(per_minute=6_000, burst=3)
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 0]
    assert 0 < buckets.take("a") <= 0.01
    assert buckets.take("b") == 0


def test_buckets_of_many_clients_stay_bounded() -> None:
    buckets = TokenBuckets(per_minute=60, burst=1)
    for number in range(10_050):
        buckets.take(str(number))
    assert len(buckets._clients) == 10_000


@pytest.mark.parametrize(
    ("titles", "language", "text"),
    [
        (["Ran"], "en", "Because you watched Ran"),
        (["Ran", "Ikiru"], "en", "Because you watched Ran and Ikiru"),
        (["괴물"], "ko", "«괴물»을 봐서"),
        (["쉬리"], "ko", "«쉬리»를 봐서"),
        (["Ran"], "ko", "«Ran»을(를) 봐서"),
        (["쉬리", "괴물!"], "ko", "«쉬리», «괴물!»을 봐서"),
        ([], "en", "Fits what you watch"),
    ],
)
def test_reasons_are_sentences(titles: list[str], language: str, text: str) -> None:
    assert reason_text(titles, "personal", language) == text  # type: ignore[arg-type]


def test_newcomers_are_told_that_it_is_popularity() -> None:
    assert reason_text([], "newcomer", "ko") == "많이 본 작품"


def test_every_error_of_the_house_has_a_code() -> None:
    named = [found for _, found in inspect.getmembers(house, inspect.isclass)]
    tree = [found for found in named if issubclass(found, house.MovieMlopsError)]
    codes = {found.__name__: status_of(found.__new__(found)) for found in tree}
    assert codes["LogFullError"] == 503
    assert codes["EventConflictError"] == 409
    assert codes["UnknownEventError"] == 422
    assert codes["ConfigurationError"] == 500
    assert status_of(RuntimeError()) == 500
    assert all(400 <= code < 600 for code in STATUS.values())
