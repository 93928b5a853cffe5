"""Faults 2, 5, 6, 7, 8, 9, 11 and 12 of source data, as far as the lake stands against them."""

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from movie_mlops.data.lake import Lake
from movie_mlops.data.tables import INTERACTIONS, MOVIES, Table
from movie_mlops.data.validators import ValidationReport
from movie_mlops.domain.errors import DataQualityError, MovieMlopsError, SourceFormatError

GOOD_FILM = {
    "title": "Film", "genres": ["Drama"], "vote_count": "3", "popularity": "1.5",
    "adult": "false", "year": "1999", "runtime": "90",
}  # fmt: skip
GOOD_ACT = {
    "interaction_type": "rating", "rating": "4", "timestamp": "1700000000", "line": "0"
}  # fmt: skip


def put(lake: Lake, table: Table, frame: pl.DataFrame) -> ValidationReport:
    with lake.connect() as connection:
        connection.register(f"raw_{table.name}", frame.to_arrow())
        return lake.replace(table, connection)


def films(*bad: dict[str, object]) -> pl.DataFrame:
    good = [{"movie_id": str(number), **GOOD_FILM} for number in range(1, 101)]
    rows = [*good, *({"movie_id": "500", **GOOD_FILM, **row} for row in bad)]
    return pl.DataFrame(rows, infer_schema_length=None)


def acts(*bad: dict[str, object]) -> pl.DataFrame:
    good = [{"user_id": str(number), "movie_id": "1", **GOOD_ACT} for number in range(1, 101)]
    return pl.DataFrame(
        [*good, *({"user_id": "1", "movie_id": "2", **GOOD_ACT, **row} for row in bad)]
    )


def reason_of(tmp_path: Path, table: Table, frame: pl.DataFrame) -> str:
    lake = Lake(tmp_path)
    report = put(lake, table, frame)
    assert report.rows_out == 100
    [reason] = report.quarantined
    [file] = (tmp_path / "quarantine" / table.name).glob("*.parquet")
    kept = pl.read_parquet(file)
    assert kept["reason"].to_list() == [reason]
    assert json.loads(kept["row"][0])["movie_id"]
    return reason


def test_fault_02_bom_cr_and_blanks_are_taken_off_staged_text(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    put(lake, MOVIES, films({"title": "\ufeffTail\r", "year": "2001\r", "movie_id": " 600"}))
    row = lake.read("movies").filter(pl.col("movie_id") == 600).row(0, named=True)
    assert (row["title"], row["year"]) == ("Tail", 2001)


def test_fault_02_crlf_and_bom_csv_equals_plain_csv(tmp_path: Path) -> None:
    text = "user_id,movie_id,interaction_type,rating,timestamp,line\n" + "".join(
        f"{i},{i + 1},rating,4,17000000{i:02d},{i}\n" for i in range(30)
    )
    tables = []
    for name, data in (
        ("plain", text.encode()),
        ("crlf", b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()),
    ):
        file = tmp_path / f"{name}.csv"
        file.write_bytes(data)
        lake = Lake(tmp_path / name)
        with lake.connect() as connection:
            lake.replace(INTERACTIONS, connection, f"read_csv('{file}', all_varchar=true)")
        tables.append(lake.read("interactions"))
    assert tables[0].equals(tables[1])


@pytest.mark.parametrize("title", ["Nul\x00byte", "Bell\x07"])
def test_fault_02_nul_and_control_characters_are_quarantined(tmp_path: Path, title: str) -> None:
    assert "control characters" in reason_of(tmp_path, MOVIES, films({"title": title}))


def test_fault_05_of_two_films_with_one_id_the_first_stays(tmp_path: Path) -> None:
    assert reason_of(tmp_path, MOVIES, films({"movie_id": "7", "title": "Impostor"})) == (
        "duplicate key"
    )
    found = Lake(tmp_path).read("movies").filter(pl.col("movie_id") == 7)
    assert found["title"].to_list() == ["Film"]


@pytest.mark.parametrize(
    ("number", "reason"),
    [("9223372036854775808", "not a 64-bit whole number"), ("18014398509481984", "out of range"),
     ("0", "out of range"), ("-3", "out of range"), ("3.5", "not a 64-bit whole number"),
     ("tt01", "not a 64-bit whole number"), ("", "missing")],
)  # fmt: skip
def test_fault_05_ids_that_are_none_are_quarantined(
    tmp_path: Path, number: str, reason: str
) -> None:
    lake = Lake(tmp_path)
    report = put(lake, MOVIES, films({"movie_id": number}))
    assert [text for text in report.quarantined if reason in text]
    assert report.rows_out == 100


@pytest.mark.parametrize("rating", ["nan", "inf", "0", "11", "-1", "great", "0x5"])
def test_fault_06_rating_out_of_range_is_quarantined(tmp_path: Path, rating: str) -> None:
    expected = "rating is not a number" if rating in ("great", "0x5") else "rating outside 0.5-5"
    assert reason_of(tmp_path, INTERACTIONS, acts({"rating": rating})) == expected


def test_fault_06_a_rating_without_value_is_quarantined(tmp_path: Path) -> None:
    assert "rating without its value" in reason_of(tmp_path, INTERACTIONS, acts({"rating": None}))


@pytest.mark.parametrize("votes", ["nan", "inf", "-0.1", "10.5"])
def test_fault_06_vote_average_out_of_range_is_quarantined(tmp_path: Path, votes: str) -> None:
    frame = films({"vote_average": votes})
    assert reason_of(tmp_path, MOVIES, frame) == "vote_average outside 0-10"


@pytest.mark.parametrize(
    "moment",
    ["1700000000000", "0", "4102444800", "-1", "1e300", "2039-01-01 00:00:00", "nan"],
)
def test_fault_07_milliseconds_1970_and_future_are_quarantined(tmp_path: Path, moment: str) -> None:
    assert "timestamp" in reason_of(tmp_path, INTERACTIONS, acts({"timestamp": moment}))


def test_fault_07_hours_of_a_clock_change_keep_their_order_in_utc(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    # Berlin, the night when 2:30 came twice: offsets tell which
    twice = ("2024-10-27 02:30:00+02", "2024-10-27 02:30:00+01")
    put(lake, INTERACTIONS, acts(*({"timestamp": text} for text in twice)))
    moments = lake.read("interactions").filter(pl.col("movie_id") == 2)["timestamp"]
    assert [moment.isoformat() for moment in moments] == [
        "2024-10-27T00:30:00+00:00", "2024-10-27T01:30:00+00:00"
    ]  # fmt: skip


@pytest.mark.parametrize("frame", [films()[:0], films()[:0].with_columns(extra=1)])
def test_fault_08_a_table_without_rows_is_refused(tmp_path: Path, frame: pl.DataFrame) -> None:
    lake = Lake(tmp_path)
    put(lake, MOVIES, films())
    with pytest.raises(DataQualityError, match="no good row in 0"):
        put(lake, MOVIES, frame)
    assert len(lake.read("movies")) == 100


@pytest.mark.parametrize(
    ("column", "value", "good"),
    [("year", "1894", True), ("year", "1492", False), ("year", "20001", False),
     ("year", "c. 1990", False), ("runtime", "0", False), ("runtime", "99999", False),
     ("runtime", "873", True)],
)  # fmt: skip
def test_fault_09_years_and_runtimes(tmp_path: Path, column: str, value: str, good: bool) -> None:
    lake = Lake(tmp_path)
    report = put(lake, MOVIES, films({column: value}))
    assert report.rows_out == 100 + good
    assert all(column in reason for reason in report.quarantined)


def test_fault_11_a_file_replaced_while_staged_gives_one_file_or_an_error(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    put(lake, MOVIES, films())
    file = tmp_path / "films.csv"
    header = "movie_id,title,vote_count,popularity,adult,genres\n"
    file.write_text(header + "".join(f"{i},T,1,1,false,[]\n" for i in range(1, 50)))
    with lake.connect() as connection:
        connection.read_csv(str(file)).create_view("raw_movies")
        file.write_text("something,else\n1,2\n")
        with pytest.raises((SourceFormatError, DataQualityError)):
            lake.replace(MOVIES, connection)
    assert lake.read("movies")["title"].unique().to_list() == ["Film"]


DISK_FULL = """
import resource, sys
from pathlib import Path
import polars as pl
from movie_mlops.data.lake import Lake
from movie_mlops.data.tables import INTERACTIONS
from movie_mlops.domain.errors import EngineUnavailableError

lake = Lake(Path(sys.argv[1]))
count = int(sys.argv[2])
frame = pl.DataFrame({
    "user_id": [str(i * 7919 % 1000003) for i in range(count)], "movie_id": range(1, count + 1),
    "interaction_type": "watch", "timestamp": 1_700_000_000, "line": range(count),
}, strict=False)
with lake.connect() as connection:
    connection.register("raw_interactions", frame.to_arrow())
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        lake.replace(INTERACTIONS, connection)
    except EngineUnavailableError as error:
        print("refused:", error)
    try:
        lake.append_events("user-events", 0, 0, 9, frame)
    except EngineUnavailableError as error:
        print("refused:", error)
"""


def test_fault_12_disk_full_leaves_the_last_good_data_and_no_rest(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    put(lake, INTERACTIONS, acts())
    before = lake.path("interactions").read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", DISK_FULL, str(tmp_path), "100000"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the last good data stays") == 2
    assert lake.path("interactions").read_bytes() == before
    left = [path.name for path in lake.processed.rglob("*") if path.is_file()]
    assert left == ["interactions.parquet"]


def test_every_refusal_is_of_the_house(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    with lake.connect() as connection, pytest.raises(MovieMlopsError, match="movies"):
        lake.replace(MOVIES, connection, "read_csv('/nowhere.csv')")
