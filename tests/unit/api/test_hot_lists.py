"""What ready lists keep is bounded in bytes, whatever is asked."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.houses import api_services, furnish

from movie_mlops.api.hot_lists import KEPT_BYTES, ReadyLists
from movie_mlops.settings import Settings


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReadyLists]:
    home: Path = tmp_path_factory.mktemp("home")
    settings = Settings(home=home)
    furnish(settings)
    services = api_services(settings)
    services.loader.reload()
    services.follower.catch_up()
    yield ReadyLists(services)
    services.log.close()


def test_long_queries_and_languages_are_read_but_not_kept(lists: ReadyLists) -> None:
    short = lists.asked(b"user_id=1&k=7", b"ko")
    assert short is not None
    assert lists.asked(b"user_id=1&k=7", b"ko") is short
    kept = len(lists._asked)
    for number in range(50):
        language = b"ko, " + b"x" * 300 + str(number).encode()
        assert lists.asked(b"user_id=1&k=7", language) == short
        assert lists.asked(b"user_id=1&other=" + b"y" * 5_000 + language, b"") is None
    assert len(lists._asked) == kept


def test_a_longer_list_counts_for_more_of_the_bound(lists: ReadyLists) -> None:
    counted = []
    for k in (b"1", b"20"):
        asked = lists.asked(b"user_id=2&k=" + k, b"en")
        assert asked is not None
        before = lists._bytes
        answer = lists.answer(asked)
        counted.append(lists._bytes - before)
        assert counted[-1] > len(answer.head) + len(answer.tail) + 800
    assert counted[0] + 19 * 40 < counted[1] < KEPT_BYTES / 1_000
