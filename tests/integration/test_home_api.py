"""The routes of a home page and of explanations, on a real server."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from tests.houses import FILMS, furnish, running

from movie_mlops.api.schemas.movies import Genres, PopularMovies, SimilarMovies
from movie_mlops.api.schemas.recommendations import ExplanationOut, HomeOut, Recommendations
from movie_mlops.settings import Settings

EVENTS = "/api/v1/events/user-interaction"
LISTS = "/api/v1/recommendations"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    settings = Settings(home=tmp_path_factory.mktemp("home"), writes_burst=10_000)
    furnish(settings)
    with running(settings) as url, httpx.Client(base_url=url) as client:
        yield client


@pytest.fixture
def user() -> str:
    return f"viewer-{uuid4().hex[:8]}"


def get(api: httpx.Client, path: str, **query: Any) -> dict[str, Any]:
    answer = api.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def tell(api: httpx.Client, user: str, movie: int, **more: Any) -> dict[str, Any]:
    body = {"user_id": user, "movie_id": movie, "interaction_type": "like", **more}
    answer = api.post(EVENTS, json=body)
    assert answer.status_code == 202
    return dict(answer.json())


def ids(items: list[dict[str, Any]]) -> list[int]:
    return [item["movie_id"] for item in items]


def test_an_explanation_adds_up_and_agrees_with_the_list(api: httpx.Client) -> None:
    made = get(api, LISTS, user_id="1", k=3)
    for rank, item in enumerate(made["items"], 1):
        found = get(api, f"{LISTS}/user_001/explanation", movie_id=f"movie_{item['movie_id']}")
        ExplanationOut.model_validate(found)
        assert (found["user_id"], found["rank"], found["exact"]) == ("1", rank, True)
        gave = sum(part["contribution"] for part in found["contributions"])
        assert found["baseline"] + gave == pytest.approx(found["score"], rel=1e-4, abs=1e-6)
        assert found["score"] == pytest.approx(item["score"])
        most = ids(found["contributions"])[: len(item["reason"]["because"])]
        assert most == item["reason"]["because"]
        assert found["contributions"][0]["title"].startswith("The Film ")
        assert (found["model_version"], found["snapshot"]) == ("1", "snapshot-1")
    korean = get(api, f"{LISTS}/1/explanation", movie_id=made["items"][0]["movie_id"], lang="ko")
    assert korean["contributions"][0]["title"].startswith("영화 ")


def test_what_cannot_be_explained(api: httpx.Client) -> None:
    for path, status in (
        (f"{LISTS}/1/explanation", 422),
        (f"{LISTS}/1/explanation?movie_id=x", 422),
        (f"{LISTS}/1/explanation?movie_id=999", 404),
        (f"{LISTS}/{'u' * 129}/explanation?movie_id=1", 422),
    ):
        answer = api.get(path)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"


def test_without_a_film_the_list_is_that_of_who_never_watched_it(
    api: httpx.Client, user: str
) -> None:
    for film in (3, 9, 14, 21):
        tell(api, user, film)
        tell(api, f"{user}-lacks", film, interaction_type="dislike" if film == 9 else "like")
    made = get(api, LISTS, user_id=user, without="movie_9")
    lacking = get(api, LISTS, user_id=f"{user}-lacks")
    assert made["without"] == [9]
    assert made["items"] == lacking["items"]
    assert made["items"] != get(api, LISTS, user_id=user)["items"]
    assert not set(ids(made["items"])) & {3, 9, 14, 21}
    Recommendations.model_validate(made)
    assert get(api, LISTS, user_id=user, without="3,9,14,21")["path"] == "newcomer"
    many = ",".join(map(str, range(1, 200)))
    for wrong in ("x", "9,-1", many, "1" * 3_000):
        assert api.get(LISTS, params={"user_id": user, "without": wrong}).status_code == 422


def test_the_dial_varies_the_list_and_is_off_by_default(api: httpx.Client) -> None:
    usual = get(api, LISTS, user_id="1")
    assert "diversity" not in usual
    assert get(api, LISTS, user_id="1", diversity=0)["items"] == usual["items"]
    varied = get(api, LISTS, user_id="1", diversity=0.9)
    assert varied["diversity"] == 0.9
    assert varied["items"] == get(api, LISTS, user_id="1", diversity=0.9)["items"]
    assert len(set(ids(varied["items"]))) == 10
    assert ids(varied["items"]) != ids(usual["items"])
    Recommendations.model_validate(varied)
    for wrong in ("-0.1", "1.1", "nan", "inf", "x"):
        assert api.get(LISTS, params={"user_id": "1", "diversity": wrong}).status_code == 422


def test_similar_films_say_by_what(api: httpx.Client) -> None:
    usual = get(api, "/api/v1/movies/2/similar", k=5)
    by_model = get(api, "/api/v1/movies/2/similar", k=5, by="model")
    by_content = get(api, "/api/v1/movies/2/similar", k=5, by="content")
    assert usual == by_model
    assert (by_model["by"], by_content["by"]) == ("model", "content")
    assert all(0 <= item["similarity"] <= 1.0001 for item in by_content["items"])
    assert 2 not in ids(by_content["items"])
    SimilarMovies.model_validate(by_content)
    assert api.get("/api/v1/movies/2/similar?by=magic").status_code == 422


def test_popular_films_are_those_of_the_window(api: httpx.Client, user: str) -> None:
    now = datetime.now(UTC)
    genre = "Comedy"
    for number in range(70):
        for days, film in ((0, 39), (5, 37), (5, 37), (20, 35)):
            at = (now - timedelta(days=days)).isoformat()
            tell(api, f"{user}-{number}", film, timestamp=at)
    made = get(api, "/api/v1/movies/popular", days=3, k=2)
    PopularMovies.model_validate(made)
    assert made["until"] == now.date().isoformat()
    assert made["since"] == (now - timedelta(days=2)).date().isoformat()
    assert (made["items"][0]["movie_id"], made["items"][0]["viewers"]) == (39, 70)
    week = get(api, "/api/v1/movies/popular", genre=genre, k=5)
    assert (week["days"], week["genre"]) == (7, genre)
    assert [item["viewers"] for item in week["items"][:2]] == [70, 70]
    assert set(ids(week["items"])[:2]) == {37, 39}
    assert all(genre in item["genres"] for item in week["items"])
    month = get(api, "/api/v1/movies/popular", days=30, k=3)
    assert set(ids(month["items"])) == {35, 37, 39}
    answer = api.get("/api/v1/movies/popular?days=30&k=3")
    tag = {"If-None-Match": answer.headers["etag"]}
    assert api.get("/api/v1/movies/popular?days=30&k=3", headers=tag).status_code == 304
    for wrong in ("days=0", "days=31", "genre=Nonsense", "k=0"):
        assert api.get(f"/api/v1/movies/popular?{wrong}").status_code == 422


def test_an_undone_like_does_not_count(api: httpx.Client, user: str) -> None:
    def viewers() -> int:
        items = get(api, "/api/v1/movies/popular", days=1, k=FILMS)["items"]
        return next(item["viewers"] for item in items if item["movie_id"] == 22)

    tell(api, f"{user}-other", 39)
    before = viewers()
    liked = tell(api, user, 22)
    assert wait_for(viewers, before + 1) == before + 1
    undo = {"user_id": user, "interaction_type": "undo", "target_event_id": liked["event_id"]}
    assert api.post(EVENTS, json=undo).status_code == 202
    assert wait_for(viewers, before) == before


def wait_for(figure: Any, wanted: int) -> int:
    """A ranking may be a second old."""
    give_up = datetime.now(UTC) + timedelta(seconds=3)
    while figure() != wanted and datetime.now(UTC) < give_up:
        pass
    return int(figure())


def test_genres_have_names_and_counts(api: httpx.Client) -> None:
    found = Genres.model_validate(get(api, "/api/v1/genres"))
    assert {genre.name: genre.name_ko for genre in found.items}["War"] == "전쟁"
    assert all(0 < genre.films <= FILMS for genre in found.items)


def test_a_home_page_has_rows_without_a_film_twice(api: httpx.Client) -> None:
    home = get(api, "/api/v1/home", user_id="1", k=4)
    HomeOut.model_validate(home)
    assert (home["user_id"], home["path"], home["model_version"]) == ("1", "personal", "1")
    rows = {row["key"]: row for row in home["rows"]}
    assert [row["key"] for row in home["rows"]][:4] == ["for_you", "because", "popular", "new"]
    assert ids(rows["for_you"]["items"]) == ids(get(api, LISTS, user_id="1", k=4)["items"])
    assert rows["because"]["title"].startswith("Because you watched The Film ")
    assert rows["genre"]["about"] == rows["genre"]["title"]
    shown = [film for row in home["rows"] for film in ids(row["items"])]
    assert len(shown) == len(set(shown))
    seen = ids(get(api, f"{LISTS}/1/explanation", movie_id=shown[0])["contributions"])
    assert not set(shown) & set(seen)
    assert home["rows"] == get(api, "/api/v1/home", user_id="1", k=4)["rows"]
    beneath = get(api, "/api/v1/home", user_id="1", k=4, for_you="false")
    assert beneath["rows"] == home["rows"][1:]
    assert api.get(f"/api/v1/predictions/{home['request_id']}").status_code == 200
    assert api.get(f"/api/v1/predictions/{beneath['request_id']}").status_code == 404
    korean = get(api, "/api/v1/home", user_id="1", k=4, lang="ko")
    titles = {row["key"]: row["title"] for row in korean["rows"]}
    assert titles["popular"] == "이번 주 인기 콘텐츠"
    assert titles["because"].endswith("봐서")


def test_a_home_page_for_nobody_and_for_who_has_seen_everything(
    api: httpx.Client, user: str
) -> None:
    nobody = get(api, "/api/v1/home", k=3)
    assert nobody["user_id"] is None
    assert [row["key"] for row in nobody["rows"]] == ["for_you", "popular", "new"]
    for film in range(1, FILMS + 1):
        tell(api, user, film, interaction_type="dislike")
    everything = get(api, "/api/v1/home", user_id=user, k=3)
    assert [(row["key"], row["items"]) for row in everything["rows"]] == [("for_you", [])]
    assert api.get("/api/v1/home?k=51").status_code == 422


def test_a_click_changes_the_home_page(api: httpx.Client, user: str) -> None:
    before = get(api, "/api/v1/home", user_id=user, k=3)
    assert [row["key"] for row in before["rows"]] == ["for_you", "popular", "new"]
    liked = before["rows"][0]["items"][0]["movie_id"]
    tell(api, user, liked)
    after = get(api, "/api/v1/home", user_id=user, k=3)
    assert after["path"] == "personal"
    rows = {row["key"]: row for row in after["rows"]}
    assert rows["because"]["about"] == liked
    assert liked not in [film for row in after["rows"] for film in ids(row["items"])]


def test_the_pages_of_the_document_know_these_routes(api: httpx.Client) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    for path in (
        "/api/v1/home", "/api/v1/genres", "/api/v1/movies/popular",
        f"{LISTS}/{{user_id}}/explanation",
    ):  # fmt: skip
        assert "200" in paths[path]["get"]["responses"]
    names = {one["name"] for one in paths[LISTS]["get"]["parameters"]}
    assert {"user_id", "k", "lang", "expand", "without", "diversity"} <= names


@pytest.mark.parametrize("path", ["/api/v1/home", LISTS])
def test_a_position_is_waited_for(api: httpx.Client, path: str, user: str, tmp_path: Path) -> None:
    position = tell(api, user, 5)["position"]
    answer = api.get(path, params={"user_id": user}, headers={"X-Position": position})
    assert answer.json()["path"] == "personal"
