"""From the manifest to a list: loading, refusal, roll back, the ladder of fallbacks."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.houses import FILMS, START, interactions, movies, serve

from movie_mlops.domain.errors import EngineUnavailableError, MovieNotFoundError
from movie_mlops.domain.interactions import Interaction, InteractionType, UserId
from movie_mlops.domain.movies import MovieId
from movie_mlops.domain.versions import MOVIE_PREDICTOR, MOVIE_RECOMMENDER, Alias
from movie_mlops.events import EventLog, open_event_log
from movie_mlops.events.schemas import USER_EVENTS, UserInteractionEvent, encode
from movie_mlops.models.algorithms import load
from movie_mlops.models.bundle import save_bundle
from movie_mlops.models.manifest import Entry, point, roll_back
from movie_mlops.models.serving.catalogue import Catalogue
from movie_mlops.models.serving.follower import HISTORIES, HistoriesFollower, write_histories
from movie_mlops.models.serving.histories import Histories
from movie_mlops.models.serving.model_loader import LoadedModel, ModelLoader
from movie_mlops.models.serving.predictor import MovieFacts, RatingService
from movie_mlops.models.serving.ranking import best_of
from movie_mlops.models.serving.recommender import ANONYMOUS, RecommendationService

LENGTH = 50


@pytest.fixture(scope="module")
def serving_with_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serving")
    serve(folder)
    return folder


@pytest.fixture
def loader(serving_with_model: Path) -> ModelLoader:
    made = ModelLoader(serving_with_model, load)
    made.reload()
    return made


@pytest.fixture
def histories() -> Histories:
    return Histories.from_frame(interactions(), LENGTH)


@pytest.fixture
def service(loader: ModelLoader, histories: Histories) -> RecommendationService:
    return RecommendationService(loader, histories, Catalogue(movies))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    opened = open_event_log("sqlite:events.db", tmp_path, 10_000_000)
    yield opened
    opened.close()


def act(number: int, movie: int, kind: str = "like", user: str = "new") -> Interaction:
    return Interaction(f"e{number}", UserId(user), MovieId(movie), InteractionType(kind), START)


class Broken:
    """A model that loads and then fails in the given way."""

    name = "broken"

    def __init__(self, value: float | Exception) -> None:
        self.movie_ids = np.arange(1, FILMS + 1)
        self.value = value

    def fit(self, histories: object, seed: int = 0) -> "Broken":
        return self

    def score(self, histories: Sequence[NDArray[Any]]) -> NDArray[Any]:
        if isinstance(self.value, Exception):
            raise self.value
        if histories[0].size:
            return np.full((1, FILMS), self.value)
        return np.arange(FILMS, dtype=float)[None]

    def contributions(self, history: NDArray[Any], item: int) -> NDArray[Any]:
        return np.zeros(len(history))

    def similar(self, item: int) -> NDArray[Any]:
        return np.zeros(FILMS)

    def artifact(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return {}, {}

    @classmethod
    def from_artifact(cls, arrays: Mapping[str, Any], card: dict[str, Any]) -> "Broken":
        return cls(float("nan"))


class OneByOne:
    """A model that explains one film at a time."""

    def __init__(self, model: Any) -> None:
        self._model, self.movie_ids, self.asked = model, model.movie_ids, 0
        self.score = model.score

    def contributions(self, history: NDArray[Any], item: int) -> NDArray[Any]:
        self.asked += 1
        return np.asarray(self._model.contributions(history, item))


class Timed:
    """A model that reads the times of the acts, and keeps what it was asked."""

    reads_times = True

    def __init__(self, model: Any) -> None:
        self._model = model
        self.movie_ids = model.movie_ids
        self.asked: list[tuple[list[int], list[int]]] = []

    def score(
        self, histories: Sequence[NDArray[Any]], times: Sequence[NDArray[Any]] | None = None
    ) -> NDArray[Any]:
        if times is not None:
            self._note(histories[0], times[0])
        return np.asarray(self._model.score(histories))

    def contributions(self, history: NDArray[Any], item: int, times: NDArray[Any]) -> NDArray[Any]:
        self._note(history, times)
        return np.asarray(self._model.contributions(history, item))

    def _note(self, history: NDArray[Any], times: NDArray[Any]) -> None:
        self.asked.append((self.movie_ids[history].tolist(), times.tolist()))


def serving_only(loaded: LoadedModel) -> Any:
    """A loader that has this model and nothing else."""
    return SimpleNamespace(get=lambda *_: loaded)


def test_a_known_viewer_gets_unseen_films_of_their_taste(
    service: RecommendationService, histories: Histories
) -> None:
    made = service.recommend(UserId("1"), 5)
    assert made.path == "personal"
    assert (made.model_version, made.snapshot) == ("1", "snapshot-1")
    seen = set(histories.of("1").films.tolist())
    assert len(made.items) == 5
    assert not {item.movie_id for item in made.items} & seen
    assert sum(item.movie_id % 2 == 0 for item in made.items) >= 4  # viewer 1 likes even films
    assert all(set(item.because) <= seen for item in made.items)
    assert any(item.because for item in made.items)
    scores = [item.score for item in made.items]
    assert scores == sorted(scores, reverse=True)


def test_a_newcomer_gets_popularity_and_the_first_like_makes_it_personal(
    service: RecommendationService, histories: Histories
) -> None:
    before = service.recommend(UserId("new"), 10)
    assert before.path == "newcomer"
    assert before == service.recommend(UserId("new"), 10)
    assert service.recommend(ANONYMOUS, 10).items == before.items
    liked = before.items[0].movie_id
    histories.apply(act(1, liked))
    after = service.recommend(UserId("new"), 10)
    assert after.path == "personal"
    assert liked not in {item.movie_id for item in after.items}
    histories.apply(act(2, after.items[0].movie_id, "dislike"))
    assert after.items[0] not in service.recommend(UserId("new"), 10).items


@given(
    scores=st.lists(st.sampled_from([-np.inf, 0.0, 1.0, 2.0, 3.0, 4.5]), max_size=700),
    k=st.integers(1, 100),
    times=st.sampled_from([1, 7, 60]),
)
def test_the_best_are_the_best_and_of_equals_the_first(
    scores: list[float], k: int, times: int
) -> None:
    many = np.tile(np.array(scores, np.float32), times)  # some so many that blocks are looked at
    order = np.argsort(-many, kind="stable")
    assert best_of(many, k) == order[np.isfinite(many[order])][:k].tolist()


def test_a_model_that_explains_one_by_one_gives_the_same_reasons(
    loader: ModelLoader, histories: Histories
) -> None:
    at_once = RecommendationService(loader, histories, Catalogue(movies))
    expected = [at_once.recommend(UserId(str(user)), 10).items for user in range(1, 20)]
    loaded = loader.get(MOVIE_RECOMMENDER)
    assert loaded is not None
    slow = OneByOne(loaded.model)
    one_by_one = RecommendationService(
        serving_only(replace(loaded, model=slow)), histories, Catalogue(movies)
    )
    assert [one_by_one.recommend(UserId(str(user)), 10).items for user in range(1, 20)] == expected
    assert slow.asked >= 19 * 10


def test_a_model_that_reads_times_gets_those_of_the_films_it_knows(
    loader: ModelLoader, histories: Histories
) -> None:
    loaded = loader.get(MOVIE_RECOMMENDER)
    assert loaded is not None
    known = histories.of("3")
    histories.apply(act(1, FILMS + 5, user="3"))  # a film that the model does not know
    model = Timed(loaded.model)
    source = serving_only(replace(loaded, model=model))
    service = RecommendationService(source, histories, Catalogue(movies))
    made = service.recommend(UserId("3"), 5)
    service.explain(UserId("3"), made.items[0].movie_id)
    service.recommend(UserId("nobody"), 5)
    expected = (known.films.tolist(), known.times.tolist())
    assert len(model.asked) > 5
    assert all(asked == expected for asked in model.asked)


def test_who_has_seen_everything_gets_an_empty_list(
    service: RecommendationService, histories: Histories
) -> None:
    for number in range(1, FILMS + 1):
        histories.apply(act(number, number))
    assert service.recommend(UserId("new"), 10).items == ()
    histories.apply(act(1, 7, user="one"))
    assert len(service.recommend(UserId("one"), 100).items) == FILMS - 1


def test_films_that_only_the_viewer_knows_lead_to_popularity(
    service: RecommendationService, histories: Histories
) -> None:
    histories.apply(act(1, 10**6))
    made = service.recommend(UserId("new"), 3)
    assert made.path == "popular"
    assert len(made.items) == 3


def test_films_that_left_the_catalogue_are_not_shown(
    loader: ModelLoader, histories: Histories
) -> None:
    half = Catalogue(lambda: movies(FILMS // 2))
    made = RecommendationService(loader, histories, half).recommend(UserId("1"), 100)
    assert all(item.movie_id <= FILMS // 2 for item in made.items)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_with_bad_scores_falls_back_to_popularity(
    serving_with_model: Path, histories: Histories, value: float
) -> None:
    loader = ModelLoader(serving_with_model, lambda arrays, card: Broken(value))
    loader.reload()
    made = RecommendationService(loader, histories, Catalogue(movies)).recommend(UserId("1"), 3)
    assert made.path == "popular"
    assert len(made.items) == 3


def test_a_model_that_raises_leads_to_the_static_list(
    serving_with_model: Path, histories: Histories
) -> None:
    loader = ModelLoader(serving_with_model, lambda arrays, card: Broken(RuntimeError("no")))
    loader.reload()
    made = RecommendationService(loader, histories, Catalogue(movies)).recommend(UserId("1"), 3)
    assert made.path == "static"
    assert not {item.movie_id for item in made.items} & set(histories.of("1").hidden.tolist())


def test_without_a_model_the_list_is_static(tmp_path: Path) -> None:
    loader = ModelLoader(tmp_path, load)
    loader.reload()
    service = RecommendationService(loader, Histories(LENGTH), Catalogue(movies))
    made = service.recommend(UserId("1"), 3)
    assert (made.path, made.model_version) == ("static", "none")
    assert [item.movie_id for item in made.items] == [1, 2, 3]
    assert len(service.similar(MovieId(1), 3)) == 3
    with pytest.raises(EngineUnavailableError, match="rating_training"):
        RatingService(loader).predict([MovieFacts("x", "", 2000, 90, 10, (), is_adult=False)])


def test_similar_films_share_the_taste_and_new_films_have_genres(
    service: RecommendationService, loader: ModelLoader
) -> None:
    found = service.similar(MovieId(2), 5)
    assert len(found) == 5
    assert sum(film.movie_id % 2 == 0 for film in found) >= 4
    assert 2 not in {film.movie_id for film in found}
    more = RecommendationService(loader, Histories(LENGTH), Catalogue(lambda: movies(FILMS + 2)))
    assert len(more.similar(MovieId(FILMS + 2), 5)) == 5
    with pytest.raises(MovieNotFoundError):
        service.similar(MovieId(999), 5)


def test_a_damaged_bundle_is_refused_and_the_last_good_one_stays(tmp_path: Path) -> None:
    first = serve(tmp_path, "1", "popularity")
    loader = ModelLoader(tmp_path, load)
    loader.reload()
    second = serve(tmp_path, "2", "popularity")
    array = next((tmp_path / second.path).glob("*.npy"))
    array.write_bytes(array.read_bytes()[:-4] + b"evil")
    loader.reload()
    loaded = loader.get(MOVIE_RECOMMENDER)
    assert loaded is not None
    assert loaded.entry == first
    assert "hash" in loader.problems[f"{MOVIE_RECOMMENDER} champion"]
    outside = Entry("3", "../elsewhere", "0" * 64, "s", "popularity")
    point(tmp_path, MOVIE_RECOMMENDER, Alias.CHAMPION, outside)
    loader.reload()
    assert "outside" in loader.problems[f"{MOVIE_RECOMMENDER} champion"]
    (tmp_path / "manifest.json").write_text("{broken")
    loader.reload()
    assert "manifest" in loader.problems
    assert loader.get(MOVIE_RECOMMENDER) is loaded


def test_a_recommender_is_no_rating_model(tmp_path: Path) -> None:
    entry = serve(tmp_path, "1", "popularity")
    point(tmp_path, MOVIE_PREDICTOR, Alias.CHAMPION, entry)
    loader = ModelLoader(tmp_path, lambda arrays, card: Broken(0.0))
    loader.reload()
    assert loader.get(MOVIE_RECOMMENDER) is not None
    assert loader.get(MOVIE_PREDICTOR) is None
    assert "no model for" in loader.problems[f"{MOVIE_PREDICTOR} champion"]


def test_promotion_and_roll_back_are_served_within_a_second(tmp_path: Path) -> None:
    heard: list[bool] = []
    serve(tmp_path, "1", "popularity")
    loader = ModelLoader(tmp_path, load, poll_seconds=0.02)
    loader.subscribe(lambda: heard.append(True))
    loader.start()
    try:
        for change, version in (
            (lambda: serve(tmp_path, "2", "popularity"), "2"),
            (lambda: roll_back(tmp_path, MOVIE_RECOMMENDER), "1"),
        ):
            change()
            start = time.monotonic()
            while (found := loader.get(MOVIE_RECOMMENDER)) and found.entry.version != version:
                assert time.monotonic() - start < 1.0
                time.sleep(0.005)
    finally:
        loader.stop()
    assert len(heard) == 3


def test_the_follower_hears_other_replicas_and_new_snapshots(tmp_path: Path, log: EventLog) -> None:
    loader = ModelLoader(tmp_path, load, poll_seconds=0.02)
    histories = Histories(LENGTH)
    follower = HistoriesFollower(histories, log, loader, tmp_path, "api-0")
    like = UserInteractionEvent("new", 5, InteractionType.LIKE, START)
    log.publish(USER_EVENTS, [encode(like, "before")])
    loader.start()
    follower.start()
    try:
        assert histories.of("new").films.tolist() == [5]  # caught up before start returns
        [done] = log.publish(USER_EVENTS, [encode(like, "other replica")])
        _until(lambda: histories.has_applied(done.position))
        write_histories(tmp_path, Histories.from_frame(interactions(), LENGTH), "s1")
        _until(lambda: histories.of("1").films.size > 0)
        assert histories.of("new").films.tolist() == [5]  # replayed into the new snapshot
        assert follower.lag() == 0
        sha256 = save_bundle(tmp_path / HISTORIES / "s2", {"users": np.zeros(3)}, {})
        bad = Entry("s2", f"{HISTORIES}/s2", sha256, "s2", HISTORIES)
        point(tmp_path, HISTORIES, Alias.CHAMPION, bad)
        _until(lambda: follower.problem != "")
        assert histories.of("1").films.size > 0
    finally:
        follower.stop()
        loader.stop()


def test_a_restart_begins_at_the_snapshot_and_loses_nothing(tmp_path: Path, log: EventLog) -> None:
    first = Histories.from_frame(interactions(), LENGTH)
    loader = ModelLoader(tmp_path, load)
    follower = HistoriesFollower(first, log, loader, tmp_path, "api-0")
    for number in range(1, 9):
        event = UserInteractionEvent("new", number, InteractionType.LIKE, START)
        log.publish(USER_EVENTS, [encode(event, f"e{number}")])
        if number == 4:
            follower.catch_up()
            write_histories(tmp_path, first, "at four")
    loader.reload()
    again = Histories(LENGTH)
    HistoriesFollower(again, log, loader, tmp_path, "api-0").catch_up()
    assert again.of("new").films.tolist() == list(range(1, 9))
    assert again.of("1").films.tolist() == first.of("1").films.tolist()


def _until(condition: object) -> None:
    deadline = time.monotonic() + 5
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.005)
