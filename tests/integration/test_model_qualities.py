"""What the ML Test Score asks of models and features that no other suite asks: see its page."""

from contextlib import closing
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.contracts.test_feature_store import write_tables
from tests.houses import movies

from movie_mlops.bootstrap import build_services
from movie_mlops.data.lake import Lake
from movie_mlops.data.processors.population import Population, draw_population
from movie_mlops.data.processors.tastes import simulate_interactions
from movie_mlops.data.tables import PEOPLE
from movie_mlops.features import views
from movie_mlops.features.engineering import build
from movie_mlops.features.store import FeatureStore
from movie_mlops.features.views import Feature, View
from movie_mlops.models.algorithms import create
from movie_mlops.models.algorithms.base import RatingRows
from movie_mlops.models.serving.histories import Histories
from movie_mlops.models.training.evaluation import evaluate, paired_difference
from movie_mlops.models.training.histories import build_histories
from movie_mlops.models.training.splitters import leave_last_out
from movie_mlops.settings import Settings

END = datetime(2026, 3, 1, 12, tzinfo=UTC)
FILMS, PEOPLE_COUNT = 200, 400


@pytest.fixture(scope="module")
def ids() -> np.ndarray:
    return movies(FILMS)["movie_id"].sort().to_numpy()


@pytest.fixture(scope="module")
def people() -> Population:
    return draw_population(movies(FILMS), PEOPLE_COUNT, 1)


@pytest.fixture(scope="module")
def acts(people: Population) -> pl.DataFrame:
    return simulate_interactions(people, END, 30)


def ndcg(model: object, split: object) -> np.ndarray:
    found: np.ndarray = evaluate(model, split, 42, samples=100).per_user["ndcg@10"]  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize(("days", "costs"), [(30, False), (180, True)])
def test_what_a_stale_model_costs_is_known(
    acts: pl.DataFrame, ids: np.ndarray, days: int, costs: bool
) -> None:
    """Sample people: a month costs nothing that can be measured, half a year clearly does."""
    split = leave_last_out(build_histories(acts, ids))
    old = acts.filter(pl.col("timestamp") <= END - timedelta(days=days))
    fresh = create("sequence_linear").fit(split.train, 42)
    stale = create("sequence_linear").fit(build_histories(old, ids), 42)
    loss = paired_difference(ndcg(fresh, split), ndcg(stale, split), 42)
    assert (loss.low > 0) == costs, loss
    assert loss.value < 0.05


def test_every_age_gets_better_lists_than_popularity(
    people: Population, acts: pl.DataFrame, ids: np.ndarray
) -> None:
    """Thirds of the sample people by age; no model is told anybody's age."""
    split = leave_last_out(build_histories(acts, ids))
    ours, theirs = (
        ndcg(create(name).fit(split.train, 42), split) for name in ("sequence_linear", "popularity")
    )
    ages = people.age[[int(split.train.user_ids[user]) - 1 for user in split.users]]
    third = np.searchsorted(np.quantile(ages, (1 / 3, 2 / 3)), ages)
    for group in range(3):
        gain = paired_difference(ours[third == group], theirs[third == group], 42)
        assert gain.low > 0, (group, gain)


def test_training_and_serving_know_the_same_of_everybody(
    acts: pl.DataFrame, ids: np.ndarray
) -> None:
    """From one table: the same films per person, and the same lists but where one was re-watched.

    Training keeps a film where it was first liked, serving where it was last: a rating or like
    that comes later moves it.
    """
    trained = build_histories(acts, ids)
    served = Histories.from_frame(acts, 1_000)
    model = create("sequence_linear").fit(trained, 42)
    same_order = overlap = 0
    for user, name in enumerate(trained.user_ids):
        there = np.searchsorted(ids, served.of(name).films)
        assert set(there.tolist()) == set(trained.of(user).tolist())
        same_order += there.tolist() == trained.of(user).tolist()
        scores = np.array(model.score([trained.of(user), there]))
        scores[:, there] = -np.inf
        first, second = (set(np.argsort(-row)[:10].tolist()) for row in scores)
        overlap += len(first & second)
    count = len(trained.user_ids)
    assert same_order > 0.5 * count
    assert overlap > 0.95 * 10 * count
    once = acts.filter(pl.col("interaction_type") == "watch")
    trained, served = build_histories(once, ids), Histories.from_frame(once, 1_000)
    for user, name in enumerate(trained.user_ids):
        assert np.searchsorted(ids, served.of(name).films).tolist() == trained.of(user).tolist()


def test_no_model_is_told_who_somebody_is(settings: Settings) -> None:
    """What training freezes has film ids and acts; names, ages and tastes of people are not in it.

    The rating model is told about films only.
    """
    with closing(build_services(settings)) as services:
        services.runner.execute(services.pipeline("data_collection"), {}, lambda *_: None)
        steps = services.pipeline("training").steps
        frozen = steps["prepare_training_data"]({}, lambda *_: None)
        folder = services.work / frozen["snapshot"]
        told = {file.stem: set(pl.read_parquet(file).columns) for file in folder.glob("*.parquet")}
    assert told == {
        "interactions": {
            "user_id", "movie_id", "interaction_type", "rating", "timestamp", "line", "event_id",
        },
        "movies": {"movie_id", "genres"},
    }  # fmt: skip
    personal = set(PEOPLE.schema) - {"user_id"}
    assert personal
    assert not personal & {field.name for field in fields(RatingRows)}


@pytest.fixture
def one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A feature as somebody adds it: a line in the list, and a column where it is computed."""
    old = views.VIEWS["movie_features"]
    feature = Feature("decade", "int", "Decade of release.", 1870, 2100)
    new = View(old.name, old.entity, 2, old.description, (*old.features, feature))
    monkeypatch.setitem(views.VIEWS, "movie_features", new)

    with_decade = build.QUERIES[old.name].replace("year,", "year, year // 10 * 10 AS decade,")
    monkeypatch.setitem(build.QUERIES, old.name, with_decade)


@pytest.mark.slow  # Feast takes its time
@pytest.mark.usefixtures("one_more")
def test_a_new_feature_is_one_line_and_one_column(tmp_path: Path) -> None:
    """Everything else follows from the list: files, checks, Feast's objects, the online store."""
    lake = Lake(tmp_path / "data")
    write_tables(lake)
    build.build_features(lake)
    (tmp_path / "var").mkdir()
    store = FeatureStore(tmp_path / "feast_repo")
    store.apply()
    store.materialize()
    assert store.get_entity("movie", 1, ["movie_features:decade"]) == {"decade": 2000}
