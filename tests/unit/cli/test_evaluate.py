"""The command `evaluate` on small data of every kind."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result

from movie_mlops.cli.evaluate import evaluate
from movie_mlops.data.lake import Lake
from movie_mlops.data.tables import INTERACTIONS, MOVIES
from movie_mlops.domain.errors import ConfigurationError, SourceFormatError
from movie_mlops.models.algorithms import NETWORKS, REGRESSORS, fittable

FILMS, PEOPLE, LENGTH = 40, 60, 12


def lists(seed: int = 3) -> list[list[int]]:
    """People who walk along a ring of films, 1 to FILMS."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(PEOPLE):
        steps = np.cumsum(rng.integers(1, 4, LENGTH)) + rng.integers(FILMS)
        found.append([int(film) % FILMS + 1 for film in dict.fromkeys(steps % FILMS)])
    return found


def write_movielens(folder: Path) -> Path:
    folder.mkdir()
    titles = "".join(f"{film},Film {film} (2000),Drama\n" for film in range(1, FILMS + 1))
    (folder / "movies.csv").write_text("movieId,title,genres\n" + titles)
    rows = [
        f"{user},{film},{1 + place % 5}.0,{964982703 + place}\n"
        for user, films in enumerate(lists(), 1)
        for place, film in enumerate(films)
    ]
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + "".join(rows))
    return folder


def write_ncf(folder: Path) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(1)
    train, test, negative = [], [], []
    for user, films in enumerate(lists()):
        train += [f"{user}\t{film}\t4\t{place}\n" for place, film in enumerate(films[:-1])]
        test.append(f"{user}\t{films[-1]}\t4\t99\n")
        others = rng.permutation(sorted(set(range(1, FILMS + 1)) - set(films)))[:15]
        negative.append(f"({user},{films[-1]})\t" + "\t".join(map(str, others)) + "\n")
    (folder / "tiny.train.rating").write_text("".join(train))
    (folder / "tiny.test.rating").write_text("".join(test))
    (folder / "tiny.test.negative").write_text("".join(negative))
    return folder


def write_home(home: Path) -> Path:
    lake = Lake(home / "data")
    start = datetime(2024, 1, 1, tzinfo=UTC)
    acts = [
        (str(user), film, "watch", None, start + timedelta(days=place), user * 100 + place)
        for user, films in enumerate(lists())
        for place, film in enumerate(films)
    ]
    movies = [
        {"movie_id": film, "title": "x", "genres": ["Drama"], "directors": [], "cast": [],
         "vote_count": 1, "popularity": 1.0, "adult": False}
        for film in range(1, FILMS + 1)
    ]  # fmt: skip
    lake.processed.mkdir(parents=True)
    pl.DataFrame(acts, INTERACTIONS.schema, orient="row").write_parquet(lake.path("interactions"))
    pl.DataFrame(movies, MOVIES.schema).write_parquet(lake.path("movies"))
    return home


def call(*arguments: object) -> Result:
    return CliRunner().invoke(evaluate, [str(one) for one in arguments], catch_exceptions=False)


def figures(*arguments: object) -> dict:
    done = call(*arguments, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def check_shape(found: dict, names: tuple[str, ...]) -> None:
    assert tuple(found["algorithms"]) == names
    for measured in found["algorithms"].values():
        for metric in ("ndcg@10", "hit_rate@10", "sampled_ndcg@10", "sampled_hit_rate@10"):
            assert set(measured[metric]) == {"value", "low", "high"}
            assert 0 <= measured[metric]["low"] <= measured[metric]["value"]
            assert measured[metric]["value"] <= measured[metric]["high"] <= 1
        assert measured["train_cpu_seconds"] >= 0
        assert measured["latency_ms"] >= measured["list_ms"] > 0
        assert measured["bundle_mb"] > 0
        assert measured["peak_memory_mb"] > 10


@pytest.mark.parametrize("protocol", ["leave-last-out", "temporal"])
def test_movielens_folder_as_json(protocol: str, tmp_path: Path) -> None:
    data = write_movielens(tmp_path / "ml")
    found = figures("--data", data, "--protocol", protocol)
    check_shape(found, fittable())
    assert set(found["left_out"]) == set(NETWORKS) - set(fittable())
    assert found["protocol"] == protocol
    assert found["items"] == FILMS
    assert found["users"] == PEOPLE
    if protocol == "leave-last-out":
        ranked = {name: measured["ndcg@10"] for name, measured in found["algorithms"].items()}
        assert ranked["sequence_linear"]["low"] > ranked["popularity"]["high"]
        assert set(found["gate"]["reasons"]) == set(fittable())
        assert found["gate"]["champion"] != "popularity"


@pytest.mark.parametrize("prefix", ["", "tiny"])
def test_ncf_files(prefix: str, tmp_path: Path) -> None:
    data = write_ncf(tmp_path / "ncf")
    found = figures("--data", data / prefix, "--protocol", "ncf", "--algorithms", "item_neighbours")
    check_shape(found, ("popularity", "item_neighbours"))
    assert (found["protocol"], found["users"]) == ("ncf", PEOPLE)
    measured = found["algorithms"]["popularity"]
    # one of sixteen given films is easier to put among ten than one of all unseen
    assert measured["sampled_hit_rate@10"]["value"] > measured["hit_rate@10"]["value"]


@pytest.mark.parametrize("part", ["", "data", "data/processed"])
def test_home_and_lake_folders(part: str, tmp_path: Path) -> None:
    home = write_home(tmp_path / "home")
    found = figures("--data", home / part, "--algorithms", "popularity")
    check_shape(found, ("popularity",))
    assert "calibration@10" in found["algorithms"]["popularity"]


def test_the_present_home_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOVIE_MLOPS_HOME", str(write_home(tmp_path / "home")))
    assert figures("--algorithms", "popularity")["users"] == PEOPLE


def test_rating_regressors_on_a_home(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    films = 150
    rating = np.clip(rng.normal(6.5, 1.0, films), 1, 10)
    movies = [
        {"movie_id": film + 1, "title": f"Film {film}", "year": 1960 + film % 60, "runtime": 100,
         "genres": ["Drama"] if rating[film] > 6.5 else ["Horror"], "directors": [], "cast": [],
         "vote_average": float(rating[film]), "vote_count": 50 + film, "popularity": 1.0,
         "adult": False}
        for film in range(films)
    ]  # fmt: skip
    lake = Lake(tmp_path / "data")
    lake.processed.mkdir(parents=True)
    pl.DataFrame(movies, MOVIES.schema).write_parquet(lake.path("movies"))
    found = figures("--task", "rating", "--data", tmp_path)
    assert (found["films"], found["held_out"]) == (films, 30)
    assert tuple(found["algorithms"]) == REGRESSORS
    for measured in found["algorithms"].values():
        for metric in ("rmse", "mae", "r2", "coverage_90"):
            assert measured[metric]["low"] <= measured[metric]["value"] <= measured[metric]["high"]
        assert measured["train_cpu_seconds"] > 0
    with pytest.raises(ConfigurationError, match="there are: random_forest"):
        call("--task", "rating", "--data", tmp_path, "--algorithms", "popularity")


def test_same_seed_same_figures(tmp_path: Path) -> None:
    data = write_ncf(tmp_path / "ncf")
    arguments = ("--data", data, "--protocol", "ncf", "--algorithms", "sequence_linear")
    one, two = figures(*arguments), figures(*arguments)
    for name in one["algorithms"]:
        for costs in ("train_cpu_seconds", "peak_memory_mb", "list_ms", "latency_ms"):
            del one["algorithms"][name][costs], two["algorithms"][name][costs]
    assert one.pop("gate").keys() == two.pop("gate").keys()
    assert one == two


def test_table_and_plots(tmp_path: Path) -> None:
    data = write_movielens(tmp_path / "ml")
    names = "sequence_linear"
    done = call("--data", data, "--algorithms", names, "--plots", tmp_path / "plots")
    assert done.exit_code == 0
    for word in ("popularity", "sequence_linear", "ndcg@10", "train_cpu_seconds", "60 users"):
        assert word in done.stdout
    found = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert found == ["beyond_accuracy.png", "metrics.png", "newcomers.png"]


def test_wrong_names_are_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there are: popularity"):
        call("--data", tmp_path, "--algorithms", "magic")
    with pytest.raises(ConfigurationError, match="--protocol ncf"):
        call("--data", write_ncf(tmp_path / "ncf"))
    with pytest.raises(SourceFormatError, match="does not exist"):
        call("--data", tmp_path / "nowhere")
    with pytest.raises(SourceFormatError, match=r"train\.rating"):
        call("--data", tmp_path, "--protocol", "ncf")
    assert call("--protocol", "magic").exit_code == 2


def test_help_teaches() -> None:
    help_text = call("--help").stdout
    for word in ("full ranking", "ncf", "--json", "Examples", "movie-mlops evaluate --data"):
        assert word in help_text
