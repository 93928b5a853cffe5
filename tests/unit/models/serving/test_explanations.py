"""Scores taken apart, lists without a film, the dial on real lists."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.houses import START, interactions, movies, serve, training

from movie_mlops.domain.errors import EngineUnavailableError, MovieNotFoundError
from movie_mlops.domain.interactions import Interaction, InteractionType, UserId
from movie_mlops.domain.movies import MovieId
from movie_mlops.models.algorithms import create, load
from movie_mlops.models.serving.catalogue import Catalogue
from movie_mlops.models.serving.explanations import taken_apart
from movie_mlops.models.serving.histories import Histories
from movie_mlops.models.serving.model_loader import ModelLoader
from movie_mlops.models.serving.ranking import positions
from movie_mlops.models.serving.recommender import RecommendationService, Wish

LENGTH = 50
LIKED = (3, 9, 14, 21, 5, 11)  # oldest first


@pytest.fixture(scope="module", params=["sequence_linear", "linear_softmax", "blend", "ease"])
def loader(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelLoader:
    folder = tmp_path_factory.mktemp("serving")
    serve(folder, algorithm=str(request.param))
    made = ModelLoader(folder, load)
    made.reload()
    return made


def house(loader: ModelLoader, length: int = LENGTH) -> tuple[RecommendationService, Histories]:
    histories = Histories(length)
    return RecommendationService(loader, histories, Catalogue(movies)), histories


def like(histories: Histories, user: str, *films: int, kind: str = "like") -> None:
    for film in films:
        histories.apply(
            Interaction(f"{user}-{film}", UserId(user), MovieId(film), InteractionType(kind), START)
        )


def listed(service: RecommendationService, user: str, wish: Wish, k: int = 10) -> Any:
    return service.list_as_wished(UserId(user), k, wish).items


def test_contributions_and_baseline_are_the_score(loader: ModelLoader) -> None:
    service, histories = house(loader)
    like(histories, "a", *LIKED)
    usual = service.recommend(UserId("a"), 10).items
    for rank, item in enumerate(usual, 1):
        found = service.explain(UserId("a"), item.movie_id)
        assert found.exact
        assert found.rank == rank
        assert found.score == pytest.approx(item.score)
        total = found.baseline + sum(part.contribution for part in found.contributions)
        assert total == pytest.approx(found.score, rel=1e-4, abs=1e-5)
        ages = {part.movie_id: part.age for part in found.contributions}
        assert [ages[MovieId(film)] for film in LIKED] == [5, 4, 3, 2, 1, 0]
        gave = [part.contribution for part in found.contributions]
        assert gave == sorted(gave, reverse=True)
        assert (
            item.because
            == tuple(part.movie_id for part in found.contributions)[: len(item.because)]
        )
    assert service.explain(UserId("a"), MovieId(LIKED[0])).rank is None
    nothing = service.explain(UserId("nobody"), usual[0].movie_id)
    assert (nothing.contributions, nothing.score) == ((), pytest.approx(nothing.baseline))


def test_without_a_film_is_the_list_of_who_never_watched_it(loader: ModelLoader) -> None:
    service, histories = house(loader)
    like(histories, "a", *LIKED)
    for gone in [{film} for film in LIKED] + [set(LIKED[1:4]), set(LIKED)]:
        rest = [film for film in LIKED if film not in gone]
        user = f"lacks-{sorted(gone)}"
        like(histories, user, *rest)
        like(histories, user, *gone, kind="dislike")  # hidden, and never liked
        wished = service.list_as_wished(UserId("a"), 10, Wish(without=gone))
        assert wished.items == service.recommend(UserId(user), 10).items
        assert wished.path == ("personal" if rest else "newcomer")
        assert not {item.movie_id for item in wished.items} & set(LIKED)
        other = f"never-saw-{sorted(gone)}"
        like(histories, other, *rest)
        longer = service.recommend(UserId(other), 10 + len(gone)).items
        assert wished.items == tuple(i for i in longer if i.movie_id not in gone)[:10]
    assert listed(service, "a", Wish(without={40})) == listed(service, "a", Wish())


def test_without_the_oldest_film_the_score_loses_its_contribution(loader: ModelLoader) -> None:
    service, histories = house(loader)
    like(histories, "a", *LIKED)
    for item in service.recommend(UserId("a"), 5).items:
        found = service.explain(UserId("a"), item.movie_id)
        oldest = next(part for part in found.contributions if part.movie_id == LIKED[0])
        like(histories, "b", *LIKED[1:])  # all ages stay
        fewer = service.explain(UserId("b"), item.movie_id)
        lost = (found.score - found.baseline) - (fewer.score - fewer.baseline)
        assert lost == pytest.approx(oldest.contribution, rel=1e-3, abs=1e-5)


def test_without_a_film_an_older_one_comes_back_into_the_history(loader: ModelLoader) -> None:
    service, histories = house(loader, length=3)
    like(histories, "a", *LIKED)
    like(histories, "b", *[film for film in LIKED if film != 5])
    like(histories, "b", 5, kind="dislike")
    assert histories.without("a", {5}).films.tolist() == [14, 21, 11]
    assert listed(service, "a", Wish(without={5})) == listed(service, "b", Wish())


def test_a_wish_leaves_the_kept_list_alone(loader: ModelLoader) -> None:
    service, histories = house(loader)
    like(histories, "a", *LIKED)
    usual = service.recommend(UserId("a"), 10)
    assert listed(service, "a", Wish()) == usual.items
    varied = listed(service, "a", Wish(diversity=1.0))
    assert varied != usual.items
    assert varied == listed(service, "a", Wish(diversity=1.0))
    assert len({item.movie_id for item in varied}) == 10
    assert not {item.movie_id for item in varied} & set(LIKED)
    assert service.recommend(UserId("a"), 10) is usual
    everything = Wish(frozenset(LIKED), 1.0)
    assert len(listed(service, "a", everything, k=100)) == 40 - len(LIKED)


def test_what_cannot_be_explained_says_why(loader: ModelLoader, tmp_path: Path) -> None:
    histories = Histories(LENGTH)
    service = RecommendationService(loader, histories, Catalogue(lambda: movies(42)))
    with pytest.raises(MovieNotFoundError, match="no film 99"):
        service.explain(UserId("a"), MovieId(99))
    with pytest.raises(MovieNotFoundError, match="does not know film 42 yet"):
        service.explain(UserId("a"), MovieId(42))
    empty = RecommendationService(ModelLoader(tmp_path, load), histories, Catalogue(movies))
    with pytest.raises(EngineUnavailableError):
        empty.explain(UserId("a"), MovieId(1))


def test_a_network_is_taken_apart_by_leaving_out() -> None:
    class Curved:
        """Not linear: the squared sum of a linear model's contributions."""

        def __init__(self) -> None:
            self._linear: Any = create("ease").fit(training(interactions(), movies()))
            self.movie_ids = self._linear.movie_ids

        def score(self, histories: Any) -> NDArray[np.float32]:
            return np.asarray((100 * self._linear.score(histories)) ** 2)

        def contributions(self, history: NDArray[Any], item: int) -> NDArray[np.float32]:
            whole = self.score([history])[0, item]
            rest = [self.score([np.delete(history, at)])[0, item] for at in range(len(history))]
            return np.asarray(whole - rest)

    model: Any = Curved()
    films = positions(model, np.array(LIKED))
    score = float(model.score([films])[0, 1])
    baseline, exact, parts = taken_apart(model, films, 1, score)
    assert not exact
    assert baseline == pytest.approx(float(model.score([films[:0]])[0, 1]))
    assert [part.age for part in sorted(parts, key=lambda part: part.age)] == [0, 1, 2, 3, 4, 5]
