"""The contract of table engines: one definition of checks and features, the same rows out.

DuckDB always; Spark (`local[2]`, one session for all tests) where it is installed.
"""

import shutil
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from movie_mlops.bootstrap.home import Home
from movie_mlops.bootstrap.recipes import pipeline
from movie_mlops.data.engine import TableEngine, open_table_engine
from movie_mlops.data.lake import Lake
from movie_mlops.data.processors.catalog import stage_tmdb_movies, write_records
from movie_mlops.data.processors.sample_films import invent_films
from movie_mlops.data.processors.tastes import simulate_people
from movie_mlops.data.tables import INTERACTIONS, MOVIES, PEOPLE, Table
from movie_mlops.domain.errors import ConfigurationError, EngineUnavailableError
from movie_mlops.domain.interactions import InteractionType, is_positive
from movie_mlops.domain.movies import GENRES
from movie_mlops.features.engineering.build import build_features
from movie_mlops.features.engineering.interaction_features import EVENT_TOPIC, all_interactions
from movie_mlops.models.algorithms import create, load
from movie_mlops.models.algorithms.implicit_als import ImplicitAls
from movie_mlops.models.training.evaluation import evaluate
from movie_mlops.models.training.histories import build_histories
from movie_mlops.models.training.splitters import leave_last_out
from movie_mlops.pipelines.training import Training
from movie_mlops.settings import Settings

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
Row = dict[str, Any]


SPARK = pytest.param("spark", marks=pytest.mark.engine("spark"))
only_spark = pytest.mark.parametrize("engine", [SPARK], indirect=True)


@pytest.fixture(scope="module", params=["duckdb", SPARK])
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TableEngine]:
    if request.param == "spark":
        if find_spec("pyspark") is None:
            pytest.skip("no Spark: pyspark is not installed")
        if shutil.which("java") is None:
            pytest.skip("no Spark: no Java on the PATH")
    url = {"duckdb": "duckdb:", "spark": "spark:local[2]?spark.sql.shuffle.partitions=4"}
    made = open_table_engine(url[request.param], tmp_path_factory.mktemp("spill"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> TableEngine:
    return open_table_engine("duckdb:", tmp_path_factory.mktemp("local"))


# what an engine does with relations


def test_rows_go_in_and_out_as_they_were(engine: TableEngine, tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "text": ["a", None, "한글 'x'"],
            "number": [1, None, 2**53],
            "real": [0.5, None, -1e30],
            "yes": [True, None, False],
            "texts": [["a", "b"], None, []],
            "moment": [NOON + timedelta(microseconds=7), None, NOON],
        },
        schema_overrides={"moment": pl.Datetime("us", "UTC")},
    )
    with engine.open() as tables:
        tables.read("given", frame, numbered=True)
        tables.keep("kept", "SELECT * FROM given WHERE number IS NOT NULL OR text IS NULL")
        tables.write("SELECT * FROM kept ORDER BY _position", tmp_path / "out.parquet")
        columns = list(tables.columns("kept").values())
        answer = tables.frame("SELECT * FROM kept ORDER BY _position")
    written = pl.read_parquet(tmp_path / "out.parquet")
    assert columns == ["BIGINT", "VARCHAR", "BIGINT", "DOUBLE", "BOOLEAN", "VARCHAR[]",
                       "TIMESTAMP WITH TIME ZONE"]  # fmt: skip
    assert_frame_equal(written.drop("_position"), frame)
    assert_frame_equal(answer, written)


def test_rows_of_files_are_numbered_in_the_order_given(engine: TableEngine, tmp_path: Path) -> None:
    files = []
    for name, rows in (("z", [3, 1]), ("it's a", [2, 9, 4]), ("m", [7])):
        files.append(tmp_path / f"{name}.parquet")
        frame = pl.DataFrame({"n": rows})
        (frame.with_columns(more=pl.lit("x")) if name == "m" else frame).write_parquet(files[-1])
    with engine.open() as tables:
        tables.read("given", files, numbered=True)
        found = tables.frame("SELECT n, more FROM given ORDER BY _position")
    assert found["n"].to_list() == [3, 1, 2, 9, 4, 7]
    assert found["more"].to_list() == [*[None] * 5, "x"]


def test_an_empty_answer_has_its_columns(engine: TableEngine, tmp_path: Path) -> None:
    with engine.open() as tables:
        tables.read("given", pl.DataFrame(schema=INTERACTIONS.schema))
        tables.write("SELECT * FROM given ORDER BY line", tmp_path / "none.parquet")
        assert tables.frame("SELECT * FROM given").schema == pl.Schema(INTERACTIONS.schema)
    assert pl.read_parquet(tmp_path / "none.parquet").schema == pl.Schema(INTERACTIONS.schema)


def test_pieces_of_work_do_not_see_each_others_relations(engine: TableEngine) -> None:
    with engine.open() as one, engine.open() as other:
        one.read("given", pl.DataFrame({"n": [1]}))
        other.read("given", pl.DataFrame({"n": [2]}))
        assert one.frame("SELECT n FROM given").item() == 1


# checks


def films(*changed: Row) -> pl.DataFrame:
    good = {
        "movie_id": "1", "title": "Film", "year": "2000", "genres": ["Drama"], "directors": [],
        "cast": None, "vote_average": "6.5", "vote_count": "10", "popularity": "1.5",
        "adult": "false", "imdb_id": "tt0000001", "overview": " x ",
    }  # fmt: skip
    return pl.DataFrame(
        [{**good, "movie_id": str(n), **row} for n, row in enumerate(changed, 1)],
        schema={name: pl.List(pl.String) if isinstance(value, list) or name == "cast" else pl.String
                for name, value in good.items()},
    )  # fmt: skip


def acts(*changed: Row) -> pl.DataFrame:
    good = {
        "user_id": "a", "movie_id": "1", "interaction_type": "rating", "rating": "4.5",
        "timestamp": "1700000000", "line": "0",
    }  # fmt: skip
    rows = [{**good, "line": str(n), **row} for n, row in enumerate(changed)]
    return pl.DataFrame(rows, schema=dict.fromkeys(good, pl.String))


BAD_FILMS = films(
    {"movie_id": "0"}, {"movie_id": "x"}, {"movie_id": ""}, {"title": None}, {"title": "a\tb\x07c"},
    {"title": "\ufeff  "}, {"year": "1800"}, {"year": "2000.5"}, {"genres": ["x"] * 21},
    {"vote_average": "nan"}, {"vote_average": "11"}, {"vote_count": "-1"}, {"vote_count": None},
    {"popularity": "inf"}, {"popularity": None}, {"adult": "maybe"}, {"imdb_id": "nm0000001"},
    {"imdb_id": "tt0000001\n"}, {"movie_id": "40"}, {"movie_id": "40.0", "title": "again"},
    {"title": "한글 \"quoted\" \\ 'x'", "year": "abc"}, {"overview": "o" * 20_001},
    *[{"movie_id": str(n)} for n in range(100, 220)],
)  # fmt: skip
BAD_ACTS = acts(
    {"user_id": " "}, {"user_id": "u" * 129}, {"user_id": "a\x00b"[:1] + "\x1f"},
    {"interaction_type": "stare"}, {"rating": None}, {"rating": "0.4"}, {"rating": "four"},
    {"rating": None, "interaction_type": "watch"}, {"timestamp": "1e3"}, {"timestamp": "9e12"},
    {"timestamp": "2023-11-14 22:13:20.5"}, {"timestamp": "2023"}, {"timestamp": "soon"},
    {"timestamp": "2031-01-01"}, {"line": "-1"}, {"line": "1.5"}, {"movie_id": "1e3"},
    {"movie_id": "9007199254740992"}, {"timestamp": "1700000500.25"},
    {"user_id": "b"}, {"user_id": "\ufeffb ", "rating": "1"}, {"user_id": "b\r"},
    *[{"user_id": f"u{n}", "timestamp": str(1_700_000_000 + n % 7)} for n in range(150)],
)  # fmt: skip


def checked(
    root: Path, engine: TableEngine, table: Table, frame: pl.DataFrame
) -> tuple[Row, pl.DataFrame, pl.DataFrame]:
    """The report, the accepted rows as written, the quarantined rows."""
    lake = Lake(root, lambda user: user == "u13", lambda: engine)
    with lake.connect() as connection:
        connection.register("raw", frame.to_arrow())
        report = lake.replace(table, connection, "raw", source="it's a test")
    files = list((root / "quarantine" / table.name).glob("*.parquet"))
    bad = pl.read_parquet(files).drop("quarantined_at").sort("row", "reason")
    return report.to_json(), lake.read(table.name), bad


@pytest.mark.parametrize(("table", "frame"), [(MOVIES, BAD_FILMS), (INTERACTIONS, BAD_ACTS)])
def test_the_same_rows_pass_and_the_others_have_the_same_reason(
    engine: TableEngine, local: TableEngine, tmp_path: Path, table: Table, frame: pl.DataFrame
) -> None:
    report, good, bad = checked(tmp_path / "one", engine, table, frame)
    expected, known_good, known_bad = checked(tmp_path / "other", local, table, frame)
    assert report == expected
    assert_frame_equal(good, known_good)
    assert_frame_equal(bad, known_bad)
    assert report["rows_in"] == len(frame)
    assert report["quarantined"]["duplicate key"] >= 1
    assert good.schema == pl.Schema(table.schema)
    assert bad["source"].unique().to_list() == ["its a test"]


TEXTS = ["1", " 2 ", "3.0", "1.0d", "1f", "0x10", "1e3", "1e400", "-5", "+7", "1_000", ".5", "5.",
         "NaN", "inf", "-Infinity", "true", "t", "YES", "n", "1", "on", "2023", "2023-1-2",
         "2023/11/14", "2023-11", "2023-11-14 22", "12:30", "2023-02-30",
         "2023-11-14T22:13:20Z", "2023-11-14 22:13:20+02",
         "now", "epoch", "99999999999999999999", "--1", "1 2"]  # fmt: skip


def test_odd_texts_are_read_alike(engine: TableEngine, tmp_path: Path) -> None:
    """Every odd text in every column of another type: what is no value is named."""
    columns = ("movie_id", "rating", "timestamp", "line")
    rows = [
        {"user_id": f"o{place}", "interaction_type": "watch", column: text}
        for place, (column, text) in enumerate((c, t) for c in columns for t in TEXTS)
    ]
    padding = [{"user_id": f"p{n}"} for n in range(900)]
    report, good, _ = checked(tmp_path, engine, INTERACTIONS, acts(*rows, *padding))
    odd = good.filter(pl.col("user_id").str.starts_with("o"))
    place = odd["user_id"].str.slice(1).cast(pl.Int64)
    taken = {name: [] for name in columns}
    for number in place.sort():
        taken[columns[number // len(TEXTS)]].append(TEXTS[number % len(TEXTS)])
    whole = ["1", " 2 ", "3.0", "1e3", "+7", "1_000", "5.", "1", "2023"]
    assert taken["movie_id"] == taken["line"] == whole
    assert taken["rating"] == ["1", " 2 ", "3.0", ".5", "5.", "1"]
    assert taken["timestamp"] == [
        "2023-1-2", "2023/11/14", "2023-11-14T22:13:20Z", "2023-11-14 22:13:20+02"
    ]  # fmt: skip
    assert report["rows_in"] == len(rows) + len(padding)


# features


def expected_features(rows: list[Row], genre_of: dict[int, str], ages: dict[str, int]) -> Any:
    """User and film features act by act, in plain Python."""
    liked: Any = defaultdict(lambda: defaultdict(int))
    mine: Any = defaultdict(list)
    ratings: Any = defaultdict(dict)
    viewers: Any = defaultdict(set)
    users, movies = {}, {}
    order = ("timestamp", "line", "user_id", "movie_id", "interaction_type")
    for row in sorted(rows, key=lambda row: tuple(row[name] for name in order)):
        user, film, rating, after = (
            row["user_id"], row["movie_id"], row["rating"],
            row["timestamp"] + timedelta(microseconds=1),
        )  # fmt: skip
        positive = is_positive(InteractionType(row["interaction_type"]), rating)
        mine[user].append((positive, rating))
        if positive and genre_of.get(film) in GENRES:
            liked[user][genre_of[film]] += 1
        given = [value for _, value in mine[user] if value is not None]
        best = max(liked[user].values(), default=0)
        users[user, after] = {
            "age": ages.get(user),
            "genre_preference": next((g for g in GENRES if best and liked[user][g] == best), None),
            "interaction_count": len(mine[user]),
            "mean_rating": sum(given) / len(given) if given else None,
            "positive_share": sum(p for p, _ in mine[user]) / len(mine[user]),
        }
        if positive:
            viewers[film].add(user)
        if rating is not None:
            ratings[film][user] = rating
        if positive or rating is not None:
            votes = ratings[film].values()
            movies[film, after] = {
                "watch_count": len(viewers[film]),
                "mean_user_rating": sum(votes) / len(votes) if votes else None,
            }
    return users, movies


def as_frame(found: dict[tuple[Any, datetime], Row], key: str, schema: Any) -> pl.DataFrame:
    rows = [{key: k, **row, "event_timestamp": at} for (k, at), row in found.items()]
    return pl.DataFrame(rows, schema=schema).sort("event_timestamp", key)


def compare(lake: Lake, engine: TableEngine, rows: list[Row], genres: dict[int, list[str]]) -> None:
    """Write the tables, build, and compare with plain Python."""
    lake.processed.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(
        [{"movie_id": film, "genres": names, "vote_average": film / 7, "vote_count": film,
          "popularity": 1.0, "year": 2000, "title": "x"} for film, names in genres.items()],
        schema=MOVIES.schema,
    ).write_parquet(lake.path("movies"))  # fmt: skip
    people = [{"user_id": "1", "name": "Ada", "age": 36}, {"user_id": "2", "name": "Bo"}]
    pl.DataFrame(people, schema=PEOPLE.schema).write_parquet(lake.path("people"))
    pl.DataFrame(rows, schema=INTERACTIONS.schema).write_parquet(lake.path("interactions"))
    counted = build_features(lake, engine)
    heard = all_interactions(lake).to_dicts()
    main = {film: names[0] for film, names in genres.items() if names}
    users, movies = expected_features(heard, main, {"1": 36})
    for name, key, expected in (
        ("user_features", "user_id", users), ("movie_activity", "movie_id", movies)
    ):  # fmt: skip
        found = pl.read_parquet(lake.features / f"{name}.parquet").drop("created_timestamp")
        assert counted[name] == len(found)
        assert_frame_equal(
            found.sort("event_timestamp", key),
            as_frame(expected, key, found.schema),
            rel_tol=1e-9,
            abs_tol=1e-9,
        )
    facts = pl.read_parquet(lake.features / "movie_features.parquet").sort("movie_id")
    assert facts["genre"].to_list() == [main.get(film) for film in sorted(genres)]
    assert facts["genre_count"].to_list() == [len(genres[film]) for film in sorted(genres)]
    assert facts["rating"].to_list() == [film / 7 for film in sorted(genres)]
    assert facts["event_timestamp"][0] == datetime.fromtimestamp(
        lake.path("movies").stat().st_mtime, UTC
    ).replace(microsecond=facts["event_timestamp"][0].microsecond)


def test_features_are_those_of_plain_python(engine: TableEngine, tmp_path: Path) -> None:
    """Four thousand acts, many at one moment, and events that repeat and undo."""
    rng = np.random.default_rng(7)
    count = 4_000
    kinds = [kind.value for kind in InteractionType if kind is not InteractionType.UNDO]
    drawn = rng.integers(0, len(kinds), count)
    rows = [
        {
            "user_id": str(rng.integers(1, 40)), "movie_id": int(rng.integers(1, 60)),
            "interaction_type": kinds[kind],
            "rating": int(rng.integers(1, 11)) / 2 if kinds[kind] == "rating" else None,
            "timestamp": NOON + timedelta(seconds=int(second)), "line": line,
        }
        for line, (kind, second) in enumerate(zip(drawn, rng.integers(0, 500, count), strict=True))
    ]  # fmt: skip
    genres = {film: list(rng.choice(GENRES, film % 4, replace=False)) for film in range(1, 50)}
    genres |= {50: ["Unheard of"]}
    lake = Lake(tmp_path)
    events = pl.DataFrame(
        [
            {"user_id": "7", "movie_id": 3, "interaction_type": "like", "rating": None,
             "timestamp": NOON + timedelta(seconds=9), "event_id": f"e{n}", "offset": n}
            for n in range(6)
        ]
        + [{"user_id": "7", "movie_id": 3, "interaction_type": "undo", "rating": None,
            "timestamp": NOON, "event_id": "e6", "target_event_id": "e2", "offset": 6}],
        schema={"user_id": pl.String, "movie_id": pl.Int64, "interaction_type": pl.String,
                "rating": pl.Float64, "timestamp": INTERACTIONS.schema["timestamp"],
                "event_id": pl.String, "target_event_id": pl.String, "offset": pl.Int64},
    )  # fmt: skip
    lake.append_events(EVENT_TOPIC, 0, 0, 4, events[:5])
    lake.append_events(EVENT_TOPIC, 0, 3, 6, events[3:])
    compare(lake, engine, rows, genres)


@hypothesis_settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            st.sampled_from("123"), st.integers(1, 4),
            st.sampled_from(["watch", "rating", "like", "dislike", "view"]),
            st.floats(0.5, 5), st.integers(0, 5),
        ),
        max_size=25,
    ),
    st.lists(st.lists(st.sampled_from(GENRES), max_size=2), min_size=1, max_size=4),
)  # fmt: skip
def test_features_of_any_small_table(
    local: TableEngine,
    tmp_path_factory: pytest.TempPathFactory,
    drawn: list[tuple[str, int, str, float, int]],
    genres: list[list[str]],
) -> None:
    rows = [
        {"user_id": user, "movie_id": film, "interaction_type": kind,
         "rating": rating if kind == "rating" else None,
         "timestamp": NOON + timedelta(seconds=second), "line": line}
        for line, (user, film, kind, rating, second) in enumerate(drawn)
    ]  # fmt: skip
    named = dict(enumerate(genres, 1))
    compare(Lake(tmp_path_factory.mktemp("any")), local, rows, named)


@only_spark  # DuckDB's errors are told by the lake
def test_a_failing_query_is_an_error_of_ours(engine: TableEngine) -> None:
    with engine.open() as tables, pytest.raises(EngineUnavailableError, match="Spark could not"):
        tables.frame("SELECT * FROM no_such_relation")


def test_an_unknown_engine_is_a_wrong_setting(tmp_path: Path) -> None:
    for url in ("pandas:", "spark:", "duckdb:file"):
        with pytest.raises(ConfigurationError, match="TABLE_ENGINE_URL"):
            open_table_engine(url, tmp_path)


def test_without_pyspark_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("movie_mlops.data.engine_spark.find_spec", lambda name: None)
    engine = open_table_engine("spark:local[1]", tmp_path)
    with pytest.raises(ConfigurationError, match="pip install"), engine.open():
        raise AssertionError


def test_the_setting_chooses_what_computes_and_what_fits(settings: Settings) -> None:
    from movie_mlops.models.training.spark_als import SparkAls

    chosen = settings.model_copy(
        update={
            "table_engine_url": "spark:local[1]",
            "candidate_algorithms": ("implicit_als", "blend"),
        }
    )
    for asked, name, kind in ((settings, "duckdb", ImplicitAls), (chosen, "spark", SparkAls)):
        home = Home(asked)  # nothing is started before it is used
        assert home.table_engine.name == name
        step = pipeline(home, "training").steps["train_movie_model"]
        training: Training = step.__self__  # type: ignore[attr-defined]
        assert type(training.create("implicit_als")) is kind
        assert training.create("blend").name == "blend"
        home.close()


# ALS


@only_spark
def test_als_on_spark_is_served_like_ours(engine: TableEngine, tmp_path: Path) -> None:
    from movie_mlops.models.training.spark_als import SparkAls, create_on

    movies = sample_films(tmp_path, 400)
    world = simulate_people(movies, people=1_000, watches_per_person=50, seed=3, end=NOON)
    rows = world.interactions.with_columns(pl.col("timestamp").cast(pl.Datetime("us", "UTC")))
    split = leave_last_out(build_histories(rows, movies["movie_id"].to_numpy()))
    told: list[str] = []
    model = create_on(engine, "implicit_als")  # type: ignore[arg-type]
    assert isinstance(model, SparkAls)
    model.progress = lambda text, done, total: told.append(text)
    model.fit(split.train, 0)
    arrays, card = model.artifact()
    served = load(arrays, card)
    assert type(served) is ImplicitAls
    assert told == [f"Spark solves for {split.train.user_count:,} users"]
    figures = {
        name: np.mean(evaluate(one, split, 0).per_user["ndcg@10"])  # type: ignore[arg-type]
        for name, one in {
            "spark": served,
            "own": create("implicit_als").fit(split.train, 0),
            "popularity": create("popularity").fit(split.train, 0),
        }.items()
    }
    assert figures["spark"] > 0.9 * figures["own"]
    assert figures["spark"] > 1.5 * figures["popularity"]
    rows.write_parquet(tmp_path / "interactions.parquet")
    known = movies["movie_id"].to_numpy()
    from_files = SparkAls(engine, sweeps=2).fit_files([tmp_path / "interactions.parquet"], known)  # type: ignore[arg-type]
    found, _ = from_files.artifact()
    counts = build_histories(rows, known).counts()
    assert found["prior"] == pytest.approx(counts / counts.sum(), abs=1e-7)
    assert found["factors"].shape == arrays["factors"].shape
    assert np.isfinite(found["factors"]).all()
    assert create_on(engine, "popularity").name == "popularity"  # type: ignore[arg-type]


def sample_films(root: Path, count: int) -> pl.DataFrame:
    lake = Lake(root)
    write_records(invent_films(count, 3), lake.raw("sample") / "films.json")
    with lake.connect() as connection:
        stage_tmdb_movies(lake.raw("sample") / "films.json", connection)
        lake.replace(MOVIES, connection)
    return lake.read("movies")
