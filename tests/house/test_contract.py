"""What the guide's reader types: names, snippets, shapes, generated files, links."""

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import polars as pl
import pytest

import movie_mlops
from movie_mlops.bootstrap import build_services
from movie_mlops.cli.tmdb_server import LOCAL_KEY, TMDBServer
from movie_mlops.data.processors.sample_films import invent_films
from movie_mlops.domain.errors import ConfigurationError
from movie_mlops.orchestration.shapes import SHAPES
from movie_mlops.settings import PREFIX, Settings, env_template, load_settings

ROOT = Path(__file__).resolve().parents[2]
NAMES = {
    "DataVersionManager", "MoviePredictor", "SimpleDataLoader", "SimpleModelRegistry",
    "TMDBCrawler", "TMDBPreProcessor", "count_parameters", "create_model", "get_data_loaders",
    "get_datasets", "get_model_registry", "init_seed", "train",
}  # fmt: skip


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home after `data_collection`."""
    home = tmp_path_factory.mktemp("home")
    services = build_services(Settings(home=home, sample_films=120, sample_people=20))
    services.runner.execute(services.pipeline("data_collection"), {}, lambda *_: None)
    services.close()
    return home


@pytest.fixture
def home(collected: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present folder is that home, as after `make up` in it."""
    monkeypatch.chdir(collected)
    monkeypatch.delenv(PREFIX + "HOME", raising=False)
    return collected


@pytest.fixture
def tmdb(monkeypatch: pytest.MonkeyPatch) -> Iterator[TMDBServer]:
    with TMDBServer(invent_films(60, seed=1), 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        monkeypatch.setenv("TMDB_BASE_URL", server.url)
        monkeypatch.setenv("TMDB_API_KEY", LOCAL_KEY)
        yield server
        server.shutdown()
        thread.join()


def test_every_name_of_the_contract_imports_from_the_package() -> None:
    assert set(movie_mlops.__all__) >= NAMES
    for name in movie_mlops.__all__:
        assert callable(getattr(movie_mlops, name))
    with pytest.raises(AttributeError, match="no_such_name"):
        movie_mlops.no_such_name  # noqa: B018


def test_the_snippet_of_the_crawler(tmdb: TMDBServer, tmp_path: Path) -> None:
    from movie_mlops import TMDBCrawler

    crawler = TMDBCrawler(request_interval_seconds=0.4)
    movies = crawler.get_bulk_popular_movies(start_page=1, end_page=2)
    assert len(movies) == 40
    assert {movie["id"] for movie in crawler.get_popular_movies(1)} <= {m["id"] for m in movies}
    TMDBCrawler.save_movies_to_json_file(movies, dst=str(tmp_path / "result"), filename="popular")
    page = json.loads((tmp_path / "result" / "popular.json").read_text())
    assert page["movies"][0]["id"] == movies[0]["id"]


def test_the_crawler_without_a_key_names_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TMDB_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="TMDB_API_KEY"):
        movie_mlops.TMDBCrawler()


def test_the_snippet_of_the_watch_log(home: Path) -> None:
    from movie_mlops import TMDBPreProcessor

    movies = json.loads(Path("data/raw/tmdb/popular.json").read_text())["movies"]
    assert len(TMDBPreProcessor.augmentation(movies[0])) == int(2 ** movies[0]["vote_average"])
    contents = []
    for _ in range(2):
        processor = TMDBPreProcessor(movies, user_count=100, max_select_count=20)
        processor.run()
        processor.save("watch_log")
        contents.append(Path("watch_log.csv").read_bytes())
    processor.plot()
    assert contents[0] == contents[1]
    log = pl.read_csv("watch_log.csv")
    assert log.columns == ["user_id", "content_id", "watch_seconds", "rating", "popularity"]
    assert log["watch_seconds"].is_between(0, 7200).all()
    assert not log.select("user_id", "content_id").is_duplicated().any()


def test_the_snippet_of_the_network(home: Path) -> None:
    from movie_mlops import MoviePredictor, SimpleDataLoader, get_datasets, init_seed, train

    init_seed()
    train_set, validation, test = get_datasets()
    assert train_set.features_dim == validation.features_dim == test.features_dim
    loader = SimpleDataLoader(train_set.features, train_set.labels, batch_size=32)
    model = MoviePredictor(train_set.features_dim, train_set.num_classes, hidden_dim=64)
    losses = [train(model, loader) for _ in range(8)]
    assert losses[-1] < losses[0]
    assert losses[-1] < np.log(train_set.num_classes)


def test_the_snippet_of_the_snapshots(tmp_path: Path) -> None:
    from movie_mlops import DataVersionManager

    (tmp_path / "processed").mkdir()
    (tmp_path / "processed" / "movies.csv").write_text("a\n1\n")
    manager = DataVersionManager(base_path=str(tmp_path))
    manager.create_data_snapshot("v1.0.0")
    (tmp_path / "processed" / "movies.csv").write_text("a\n2\n")
    manager.restore_data_version("v1.0.0")
    assert (tmp_path / "processed" / "movies.csv").read_text() == "a\n1\n"


def test_the_snippet_of_the_registry(home: Path, tmp_path: Path) -> None:
    from movie_mlops import SimpleModelRegistry, get_model_registry

    assert get_model_registry().list_models() == []
    found = get_model_registry().compare_model_versions(
        model_name="movie_predictor", versions=["1", "2"], metrics=["rmse", "mae", "accuracy"]
    )
    assert found == {v: {"rmse": None, "mae": None, "accuracy": None} for v in ("1", "2")}
    assert SimpleModelRegistry(str(tmp_path)).list_models() == []


def test_pipelines_have_the_steps_of_their_shapes_in_order(tmp_path: Path) -> None:
    services = build_services(load_settings(tmp_path))
    for name, shape in SHAPES.items():
        pipeline = services.pipeline(name)
        assert (pipeline.name, tuple(pipeline.steps)) == (name, shape.steps)
        assert shape.name == name
        assert shape.then is None or shape.then in SHAPES
    assert SHAPES["training"].steps == (
        "prepare_training_data", "train_movie_model", "evaluate_trained_model",
        "register_model_to_mlflow",
    )  # fmt: skip
    assert not any(tmp_path.iterdir()), "building the services opens nothing"


def test_the_template_of_the_settings_is_up_to_date() -> None:
    assert (ROOT / ".env.template").read_text() == env_template()
    assert "=" in env_template()
    for line in env_template().splitlines():
        assert line == "" or line.startswith("#"), "nothing is set, no secret is shipped"


DOCUMENTS = [
    *sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "frontend").glob("*.md")),
]  # fmt: skip


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_a_document_resolves(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)[^)]*\)", text):
        if re.match(r"[a-z]+:", target) or target.startswith("#"):
            continue
        if not (path.parent / unquote(target.partition("#")[0])).exists():
            broken.append(target)
    assert not broken


def test_the_first_decisions_are_recorded() -> None:
    records = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))
    assert [int(path.name[:4]) for path in records] == list(range(1, len(records) + 1))
    assert len(records) >= 6
    for path in records:
        headings = re.findall(r"(?m)^#+ +(.+)$|^\*\*(\w+)", path.read_text())
        assert headings, path.name
