"""Faults 1, 2 and 13: broken, badly encoded and malicious MovieLens archives."""

import gzip
import os
import zipfile
from pathlib import Path

import duckdb
import pytest

from movie_mlops.data.crawlers import archives
from movie_mlops.data.crawlers.movielens import MovieLensCrawler
from movie_mlops.domain.errors import SourceFormatError

MOVIES = "movieId,title,genres\n1,Amélie (2001),Comedy|Romance\n2,Heat (1995),Action\n"
RATINGS = "userId,movieId,rating,timestamp\n1,1,4.0,964982703\n1,2,3.0,964982704\n"


def fetch(where: Path, raw: Path) -> None:
    MovieLensCrawler(str(where)).fetch(raw)


def read(where: Path, raw: Path) -> tuple[list[tuple], list[tuple]]:
    fetch(where, raw)
    with duckdb.connect() as connection:
        MovieLensCrawler(str(where)).stage(raw, connection)
        films = connection.execute("SELECT movie_id, title, year FROM raw_movies").fetchall()
        acts = connection.execute(
            "SELECT user_id, movie_id, rating, epoch(timestamp) FROM raw_interactions ORDER BY line"
        ).fetchall()
    return films, acts


def folder(tmp_path: Path, movies: bytes, ratings: bytes) -> Path:
    place = tmp_path / "ml"
    place.mkdir()
    (place / "movies.csv").write_bytes(movies)
    (place / "ratings.csv").write_bytes(ratings)
    return place


def archive(tmp_path: Path, extra: dict[str, str] | None = None) -> Path:
    path = tmp_path / "ml.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("ml/movies.csv", MOVIES)
        opened.writestr("ml/ratings.csv", RATINGS)
        for name, text in (extra or {}).items():
            opened.writestr(name, text)
    return path


def test_fault_1_truncated_gzip_is_refused_and_nothing_replaced(tmp_path: Path) -> None:
    place = folder(tmp_path, MOVIES.encode(), RATINGS.encode())
    fetch(place, tmp_path / "raw")
    before = (tmp_path / "raw" / "ratings.csv").read_bytes()
    packed = gzip.compress(os.urandom(50_000))
    (place / "ratings.csv").unlink()
    for broken in (packed[: len(packed) // 2], packed[:-4], b"no gzip at all"):
        (place / "ratings.csv.gz").write_bytes(broken)
        with pytest.raises(SourceFormatError, match="ratings"):
            fetch(place, tmp_path / "raw")
        assert (tmp_path / "raw" / "ratings.csv").read_bytes() == before
        assert not list((tmp_path / "raw").glob(".*"))


def test_fault_1_truncated_zip_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path)
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"<html>not found</html>"):
        path.write_bytes(broken)
        with pytest.raises(SourceFormatError, match=r"ml\.zip"):
            fetch(path, tmp_path / "raw")


def test_fault_1_damaged_content_in_a_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ml.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as opened:
        opened.writestr("ml/movies.csv", MOVIES)
        opened.writestr("ml/ratings.csv", RATINGS)
    path.write_bytes(path.read_bytes().replace(b"964982703", b"964982704"))
    with pytest.raises(SourceFormatError, match="CRC"):
        fetch(path, tmp_path / "raw")
    assert not (tmp_path / "raw" / "ratings.csv").exists()


@pytest.mark.parametrize(
    ("mark", "encoding", "line_end"),
    [(b"", "utf-8", "\n"), (b"\xef\xbb\xbf", "utf-8", "\r\n"), (b"", "latin-1", "\r\n")],
)
def test_fault_2_encodings_marks_and_line_ends(
    mark: bytes, encoding: str, line_end: str, tmp_path: Path
) -> None:
    movies = mark + MOVIES.replace("\n", line_end).encode(encoding)
    ratings = mark + RATINGS.replace("\n", line_end).encode(encoding)
    films, acts = read(folder(tmp_path, movies, ratings), tmp_path / "raw")
    assert [film[1:] for film in films] == [("Amélie", 2001), ("Heat", 1995)]
    assert acts == [
        ("1", 10**9 + 1, "4.0", 964982703.0),
        ("1", 10**9 + 2, "3.0", 964982704.0),
    ]


def test_fault_2_marks_in_files_without_header(tmp_path: Path) -> None:
    place = tmp_path / "ml"
    place.mkdir()
    (place / "movies.dat").write_bytes(b"\xef\xbb\xbf1::Heat (1995)::Action\r\n")
    (place / "ratings.dat").write_bytes(b"\xef\xbb\xbf7::1::4::964982703\r\n")
    films, acts = read(place, tmp_path / "raw")
    assert films == [(10**9 + 1, "Heat", 1995)]
    assert acts == [("7", 10**9 + 1, "4", 964982703.0)]


def test_fault_2_nul_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    movies = MOVIES.replace("Heat", "He\0at").encode()
    ratings = RATINGS.encode() + b"1,\xff\xfe,4.0,964982705\n1,2,5.0,964982706\n"
    films, acts = read(folder(tmp_path, movies, ratings), tmp_path / "raw")
    assert films[1][1] == "Heat"
    assert acts[2][1] is None  # goes to quarantine, the next line is unharmed
    assert acts[3][2:] == ("5.0", 964982706.0)


@pytest.mark.parametrize(
    "name", ["../../evil.csv", "/etc/evil.csv", "ml/../../movies.csv", "..\\evil.csv", "C:evil.csv"]
)
def test_fault_13_a_path_that_leads_out_refuses_the_archive(name: str, tmp_path: Path) -> None:
    with pytest.raises(SourceFormatError, match="refused"):
        fetch(archive(tmp_path, {name: "x"}), tmp_path / "raw")
    assert list((tmp_path / "raw").iterdir()) == []


def test_fault_13_only_known_files_are_unpacked(tmp_path: Path) -> None:
    fetch(archive(tmp_path, {"ml/run.sh": "rm -r /", "ml/tags.csv": "x"}), tmp_path / "raw")
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == [
        "movies.csv", "ratings.csv",
    ]  # fmt: skip


def test_fault_13_a_zip_bomb_is_refused_before_unpacking(tmp_path: Path) -> None:
    path = archive(tmp_path, {"ml/links.csv": "0" * 300_000_000})
    assert path.stat().st_size < 1_000_000
    with pytest.raises(SourceFormatError, match="would unpack"):
        fetch(path, tmp_path / "raw")
    assert list((tmp_path / "raw").iterdir()) == []


def test_fault_13_a_gzip_bomb_is_stopped_while_unpacking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "LARGEST_BYTES", 3_000_000)
    place = folder(tmp_path, MOVIES.encode(), RATINGS.encode())
    (place / "ratings.csv").unlink()
    (place / "ratings.csv.gz").write_bytes(gzip.compress(b"0" * 50_000_000))
    with pytest.raises(SourceFormatError, match="unpacks to more than"):
        fetch(place, tmp_path / "raw")
    assert not (tmp_path / "raw" / "ratings.csv").exists()
    assert not list((tmp_path / "raw").glob(".*"))
