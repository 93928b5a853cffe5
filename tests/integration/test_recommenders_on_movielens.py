"""The promises on real data: MovieLens-small, each user's last film hidden, full ranking."""

from pathlib import Path

import duckdb
import pytest

from movie_mlops.data.crawlers.movielens import MovieLensCrawler
from movie_mlops.models.algorithms import create
from movie_mlops.models.training.evaluation import evaluate, newcomer_curve
from movie_mlops.models.training.histories import build_histories
from movie_mlops.models.training.splitters import Split, leave_last_out

COLUMNS = "user_id, movie_id, interaction_type, rating::DOUBLE AS rating, timestamp, line"


@pytest.fixture
def split(shared_data: Path, tmp_path: Path) -> Split:
    raw = tmp_path / "raw"
    crawler = MovieLensCrawler(str(shared_data / "ml-latest-small"))
    crawler.fetch(raw)
    with duckdb.connect() as connection:
        crawler.stage(raw, connection)
        rows = connection.sql(f"SELECT {COLUMNS} FROM raw_interactions").pl()  # noqa: S608
        films = connection.sql("SELECT movie_id FROM raw_movies").pl()["movie_id"].to_numpy()
    return leave_last_out(build_histories(rows, films, every_rating=True))


def test_sequence_linear_keeps_its_promises(split: Split) -> None:
    models = {name: create(name).fit(split.train) for name in ("popularity", "sequence_linear")}
    found = {name: evaluate(model, split) for name, model in models.items()}
    ours = found["sequence_linear"].metrics["ndcg@10"]
    theirs = found["popularity"].metrics["ndcg@10"]
    assert found["popularity"].users == 610
    assert ours.value >= 1.5 * theirs.value
    assert ours.low > theirs.high

    # newcomers with 1 to 20 films are never served worse than by popularity
    curve = newcomer_curve(models["sequence_linear"], models["popularity"], split)
    assert sorted(curve) == list(range(1, 21))
    assert all(gain.high >= 0 for gain in curve.values())
    assert sum(gain.value for gain in curve.values()) >= 0
