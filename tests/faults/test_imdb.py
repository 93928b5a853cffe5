"""Faults 1 to 4, 8, 9 and 13 at IMDb's files; and the real ones."""

import gzip
import os
import time
from pathlib import Path

import pytest

from movie_mlops.data.crawlers import archives
from movie_mlops.data.crawlers.imdb import ImdbCrawler
from movie_mlops.data.lake import Lake
from movie_mlops.data.tables import MOVIES
from movie_mlops.data.validators import ValidationReport
from movie_mlops.domain.errors import DataQualityError, SourceFormatError

BASICS = (
    "tconst titleType primaryTitle originalTitle isAdult startYear endYear runtimeMinutes genres"
)
RATINGS = "tconst averageRating numVotes"


def line(number: int, **changes: str) -> str:
    values = {
        "tconst": f"tt{number:07d}", "titleType": "movie", "primaryTitle": f"Film {number}",
        "originalTitle": f"Film {number}", "isAdult": "0", "startYear": "1999", "endYear": r"\N",
        "runtimeMinutes": "100", "genres": "Drama,Sci-Fi",
    } | changes  # fmt: skip
    return "\t".join(values.values())


def write(folder: Path, basics: list[str], ratings: list[str] | None = None) -> Path:
    """Both files, gzipped, as IMDb sends them."""
    folder.mkdir(exist_ok=True)
    if ratings is None:
        ratings = [f"{row.split(chr(9))[0]}\t7.5\t1000" for row in basics]
    for name, header, rows in (("basics", BASICS, basics), ("ratings", RATINGS, ratings)):
        text = "\n".join(["\t".join(header.split()), *rows]) + "\n"
        (folder / f"title.{name}.tsv.gz").write_bytes(gzip.compress(text.encode()))
    return folder


def rewrite(folder: Path, name: str, change) -> None:  # type: ignore[no-untyped-def]
    path = folder / f"title.{name}.tsv.gz"
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()))))
    os.utime(path, (time.time() + 5, time.time() + 5))


def collect(lake: Lake, source: Path) -> ValidationReport:
    crawler = ImdbCrawler(str(source))
    crawler.fetch(lake.raw("imdb"))
    with lake.connect() as connection:
        crawler.stage(lake.raw("imdb"), connection)
        return lake.replace(MOVIES, connection)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "data")


@pytest.fixture
def good(tmp_path: Path, lake: Lake) -> Path:
    """Twenty good films, collected."""
    source = write(tmp_path / "imdb", [line(number) for number in range(1, 21)])
    assert collect(lake, source).rows_out == 20
    return source


def test_columns_and_ids(lake: Lake, good: Path) -> None:
    row = lake.read("movies").row(0, named=True)
    assert (row["movie_id"], row["imdb_id"]) == (1_000_000_001, "tt0000001")
    assert (row["genres"], row["year"], row["runtime"]) == (["Drama", "Science Fiction"], 1999, 100)
    assert (row["vote_average"], row["vote_count"], row["adult"]) == (7.5, 1000, False)


@pytest.mark.parametrize("cut", [0.5, 0.95])
def test_fault_1_a_truncated_file_is_refused_and_good_data_stays(
    lake: Lake, good: Path, cut: float
) -> None:
    before = lake.path("movies").read_bytes()
    path = good / "title.basics.tsv.gz"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * cut)])
    os.utime(path, (time.time() + 5, time.time() + 5))
    with pytest.raises(SourceFormatError, match="truncated"):
        collect(lake, good)
    assert lake.path("movies").read_bytes() == before


def test_fault_2_bom_crlf_and_bytes_that_are_no_utf8(lake: Lake, good: Path) -> None:
    def change(content: bytes) -> bytes:
        return b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n").replace(
            b"Film 3\t", b"Film \xff\t", 1
        )

    rewrite(good, "basics", change)
    report = collect(lake, good)
    assert report.rows_in >= 19
    assert report.rows_out >= 19
    assert "Film 4" in set(lake.read("movies")["title"])
    assert not any(title.endswith("\r") for title in lake.read("movies")["title"])


def test_fault_3_missing_values_quotes_tabs_and_a_huge_field(lake: Lake, tmp_path: Path) -> None:
    rows = [line(number) for number in range(1, 31)]
    rows[0] = line(1, startYear=r"\N", runtimeMinutes=r"\N", genres=r"\N")
    rows[1] = line(2, primaryTitle='"Quoted', originalTitle='He said "no"')
    rows[2] = line(3, primaryTitle="one\ttab too many")
    rows[3] = line(4, primaryTitle="x" * 2_000_000)
    rows[4] = line(5).rpartition("\t")[0]
    report = collect(lake, write(tmp_path / "imdb", rows))
    assert report.rows_in == 30
    assert report.rows_out == 27
    found = {row["movie_id"] - 10**9: row for row in lake.read("movies").to_dicts()}
    assert (found[1]["year"], found[1]["runtime"], found[1]["genres"]) == (None, None, [])
    assert found[2]["title"] == '"Quoted'
    assert found.keys() == set(range(1, 31)) - {3, 4, 5}


def test_fault_4_columns_may_move_and_come_but_not_go(lake: Lake, good: Path) -> None:
    def reorder(content: bytes) -> bytes:
        rows = [row.split(b"\t") for row in content.rstrip(b"\n").split(b"\n")]
        return b"".join(b"\t".join([*row[::-1], b"new"]) + b"\n" for row in rows)

    rewrite(good, "basics", reorder)
    assert collect(lake, good).rows_out == 20
    rewrite(good, "basics", lambda content: content.replace(b"startYear", b"beginYear"))
    with pytest.raises(SourceFormatError, match="startYear"):
        collect(lake, good)
    assert len(lake.read("movies")) == 20


@pytest.mark.parametrize("keep", [0, 1])
def test_fault_8_an_empty_file_or_a_header_alone_is_refused(
    lake: Lake, good: Path, keep: int
) -> None:
    rewrite(good, "basics", lambda content: b"\n".join(content.split(b"\n")[:keep]))
    with pytest.raises((SourceFormatError, DataQualityError)):
        collect(lake, good)
    assert len(lake.read("movies")) == 20


def test_fault_9_years_and_runtimes_out_of_range(lake: Lake, tmp_path: Path) -> None:
    rows = [line(number) for number in range(1, 31)]
    rows[0], rows[1] = line(1, startYear="1894"), line(2, startYear="1700")
    rows[2], rows[3] = line(3, runtimeMinutes="0"), line(4, runtimeMinutes="99999")
    report = collect(lake, write(tmp_path / "imdb", rows))
    ids = {number - 10**9 for number in lake.read("movies")["movie_id"]}
    assert ids == set(range(1, 31)) - {2, 3, 4}
    assert report.quarantined == {"year outside 1874-2100": 1, "runtime outside 1-1440": 2}


def test_fault_13_a_bomb_is_refused(
    lake: Lake, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "CHUNK", 1 << 16)
    rewrite(good, "basics", lambda content: content + b" " * 20_000_000)
    with pytest.raises(SourceFormatError, match="refused"):
        collect(lake, good)
    assert len(lake.read("movies")) == 20
    assert not [path for path in lake.raw("imdb").iterdir() if path.name.startswith(".")]


def test_what_has_not_changed_is_not_unpacked_again(lake: Lake, good: Path) -> None:
    path = lake.raw("imdb") / "title.basics.tsv"
    inode = path.stat().st_ino
    ImdbCrawler(str(good)).fetch(lake.raw("imdb"))
    assert path.stat().st_ino == inode


def test_only_films_with_enough_votes(lake: Lake, tmp_path: Path) -> None:
    basics = [line(1), line(2), line(3, titleType="tvSeries")]
    ratings = ["tt0000001\t7.5\t100", "tt0000002\t7.5\t99", "tt0000003\t7.5\t1000"]
    assert collect(lake, write(tmp_path / "imdb", basics, ratings)).rows_out == 1


def test_the_real_files_pass_whole(lake: Lake, shared_data: Path) -> None:
    report = collect(lake, shared_data / "imdb")
    assert (report.rows_in, report.rows_out) == (56_924, 56_924)
