"""The lake: whole tables in, whole tables out, bad rows kept with their reasons."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from movie_mlops.data.files import replacing
from movie_mlops.data.lake import Lake
from movie_mlops.data.tables import INTERACTIONS, MOVIES, PEOPLE
from movie_mlops.domain.errors import DataQualityError, SourceFormatError


def acts(count: int, **changed: object) -> pl.DataFrame:
    """Loose interactions, all good unless changed in the first row."""
    rows = [
        {"user_id": str(i % 7), "movie_id": str(i + 1), "interaction_type": "rating",
         "rating": "4.5", "timestamp": str(1_700_000_000 + i), "line": str(i)}
        for i in range(count)
    ]  # fmt: skip
    rows[0] |= changed  # type: ignore[arg-type]
    return pl.DataFrame(rows)


def put(lake: Lake, frame: pl.DataFrame):  # type: ignore[no-untyped-def]
    with lake.connect() as connection:
        connection.register("raw_interactions", frame.to_arrow())
        return lake.replace(INTERACTIONS, connection, source="test")


def quarantine(lake: Lake, table: str = "interactions") -> pl.DataFrame:
    files = sorted((lake.root / "quarantine" / table).glob("*.parquet"))
    return pl.concat([pl.read_parquet(file) for file in files]) if files else pl.DataFrame()


def test_loose_text_becomes_the_contracts_types(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    report = put(lake, acts(10))
    assert report.to_json() == {
        "table": "interactions", "rows_in": 10, "rows_out": 10, "quarantined": {}
    }  # fmt: skip
    table = lake.read("interactions")
    assert table.schema == pl.Schema(INTERACTIONS.schema)
    assert table["timestamp"][0] == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert not list(lake.processed.glob(".*")), "no partial file stays"


def test_interactions_lie_in_order_of_time_then_line(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    put(lake, acts(50).reverse())
    assert lake.read("interactions")["line"].to_list() == list(range(50))


def test_missing_optional_columns_are_null_and_missing_lists_empty(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    with lake.connect() as connection:
        connection.execute(
            "CREATE VIEW raw_movies AS SELECT 7 AS movie_id, 'T' AS title, 0 AS vote_count, "
            "1.5 AS popularity, false AS adult, ['Drama'] AS genres"
        )
        lake.replace(MOVIES, connection)
    row = lake.read("movies").row(0, named=True)
    assert (row["year"], row["cast"], row["genres"]) == (None, [], ["Drama"])


def test_a_missing_required_column_is_a_bad_file(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    put(lake, acts(5))
    with pytest.raises(DataQualityError, match=r"lacks the column\(s\) user_id"):
        put(lake, acts(5).rename({"user_id": "userId"}))
    assert len(lake.read("interactions")) == 5


def test_too_many_bad_rows_leave_the_last_good_data(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    put(lake, acts(10))
    bad = acts(10).with_columns(
        rating=pl.when(pl.int_range(10) < 3).then(pl.lit("99")).otherwise("rating")
    )
    with pytest.raises(DataQualityError, match="more than 20%") as caught:
        put(lake, bad)
    assert caught.value.report.quarantined == {"rating outside 0.5-5": 3}
    assert len(lake.read("interactions")) == 10
    assert quarantine(lake).is_empty(), "a refused file leaves nothing behind"


def test_the_same_bad_rows_are_kept_once(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    for _ in range(3):
        put(lake, acts(10, rating="11"))
    kept = quarantine(lake)
    assert kept.select("reason", "source").rows() == [("rating outside 0.5-5", "test")]
    assert '"rating":"11"' in kept["row"][0]
    assert kept["quarantined_at"][0] <= datetime.now(UTC)


def test_mended_rows_come_back_by_replay_and_the_rest_stays(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    frame = acts(12, rating="11").with_columns(
        user_id=pl.when(pl.int_range(12) == 5).then(pl.lit("")).otherwise("user_id")
    )
    assert put(lake, frame).rows_out == 10
    [file] = (lake.root / "quarantine" / "interactions").glob("*.parquet")
    mended = pl.read_parquet(file).with_columns(
        pl.col("row").str.replace('"rating":"11"', '"rating":"5"')
    )
    mended.write_parquet(file)
    report = lake.replay_quarantine(INTERACTIONS)
    assert (report.rows_in, report.rows_out) == (2, 1)
    assert len(lake.read("interactions")) == 11
    assert quarantine(lake)["reason"].to_list() == ["user_id is missing"]
    again = lake.replay_quarantine(INTERACTIONS)
    assert (again.rows_in, again.rows_out) == (1, 0)
    assert lake.read("interactions")["line"].to_list() == [i for i in range(12) if i != 5]


def test_replay_without_quarantine_does_nothing(tmp_path: Path) -> None:
    assert Lake(tmp_path).replay_quarantine(PEOPLE).rows_in == 0


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(max_size=5), st.one_of(st.integers(), st.floats(), st.text(max_size=4)),
            st.one_of(st.floats(), st.none()),
        ),
        min_size=1, max_size=20,
    )
)  # fmt: skip
def test_no_row_is_lost_whatever_it_holds(rows: list[tuple[object, ...]]) -> None:
    import tempfile

    frame = pl.DataFrame(
        {
            "user_id": [row[0] for row in rows],
            "movie_id": [str(row[1]) for row in rows],
            "rating": [None if row[2] is None else str(row[2]) for row in rows],
            "interaction_type": "watch", "timestamp": 1_700_000_000,
            "line": list(range(len(rows))),
        },
        strict=False,
    )  # fmt: skip
    good = acts(100).with_columns(pl.lit("good").alias("user_id"))
    both = pl.concat([good, frame.select(pl.col(good.columns).cast(pl.String))])
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder))
        report = put(lake, both)
        kept = quarantine(lake)
        assert report.rows_in == len(both)
        assert len(lake.read("interactions")) + len(kept) == len(both)
        assert kept.is_empty() or kept["reason"].is_not_null().all()


def test_an_exception_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(RuntimeError), replacing(target) as partial:  # noqa: PT012
        partial.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_events_repeat_without_doubling(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    assert lake.events("user-events").is_empty()
    batch = pl.DataFrame({"event_id": ["a", "b"], "movie_id": [1, 2]})
    more = pl.DataFrame({"event_id": ["a", "b", "c"], "movie_id": [1, 2, 3]})
    lake.append_events("user-events", 0, 0, 1, batch)
    lake.append_events("user-events", 0, 0, 1, batch)
    lake.append_events("user-events", 0, 0, 2, more)
    lake.append_events("user-events", 1, 0, 0, batch[:1])
    lake.append_events("user-events-other", 0, 0, 0, batch)
    assert lake.events("user-events")["event_id"].to_list() == ["a", "b", "c"]
    names = sorted(path.name for path in (lake.processed / "events").iterdir())
    assert names == [
        "user-events-0-0-2.parquet",
        "user-events-1-0-0.parquet",
        "user-events-other-0-0-0.parquet",
    ]


def test_an_unreadable_source_is_a_source_format_error(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    file = tmp_path / "bad.parquet"
    file.write_bytes(b"PAR1 not really")
    with lake.connect() as connection, pytest.raises(SourceFormatError, match="interactions"):
        lake.replace(INTERACTIONS, connection, f"read_parquet('{file}')")
    assert not lake.exists("interactions")
