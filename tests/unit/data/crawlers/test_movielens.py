"""MovieLens: every released format gives the same tables."""

import gzip
import http.server
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from movie_mlops.data.crawlers.base import no_progress
from movie_mlops.data.crawlers.movielens import MovieLensCrawler, clean_title
from movie_mlops.domain.errors import CrawlError, SourceFormatError
from movie_mlops.domain.movies import FOREIGN_ID_BASE, GENRES

FLAGS = "|0|0|0|1|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0"  # animation, children's, comedy
CSV = {
    "movies.csv": "movieId,title,genres\r\n"
    "1,Toy Story (1995),Animation|Children|Comedy\r\n"
    '5,"Matrix, The (1999)",Action|Sci-Fi|IMAX\r\n'
    "7,Nobody Knows (2001),(no genres listed)\r\n",
    "links.csv": "movieId,imdbId,tmdbId\r\n1,0114709,862\r\n5,0133093,603\r\n7,,\r\n",
    "ratings.csv": "userId,movieId,rating,timestamp\r\n"
    "3,1,4.0,964982703\r\n3,5,5.0,964982704\r\n9,1,2.0,964982700\r\n",
}
DAT = {
    "movies.dat": "1::Toy Story (1995)::Animation|Children's|Comedy\n"
    "5::Matrix, The (1999)::Action|Sci-Fi\n7::Nobody Knows (2001)::\n",
    "ratings.dat": "3::1::4::964982703\n3::5::5::964982704\n9::1::2::964982700\n",
}
TAB = {
    "u.item": f"1|Toy Story (1995)|01-Jan-1995||http://x{FLAGS}\n"
    "5|Matrix, The (1999)|01-Jan-1999||http://x|0|1|0|0|0|0|0|0|0|0|0|0|0|0|0|1|0|0|0\n"
    "7|Nobody Knows (2001)|01-Jan-2001||http://x|1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n",
    "u.data": "3\t1\t4\t964982703\n3\t5\t5\t964982704\n9\t1\t2\t964982700\n",
}
FORMATS = {"csv": CSV, "dat": DAT, "tab": TAB}
TMDB_IDS = {"csv": [862, 603, FOREIGN_ID_BASE + 7]}
FOREIGN_IDS = [FOREIGN_ID_BASE + number for number in (1, 5, 7)]


def write_folder(folder: Path, files: dict[str, str], encoding: str = "utf-8") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_bytes(text.encode(encoding))
    return folder


def write_zip(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(f"{path.stem}/{name}", text)
        archive.writestr(f"{path.stem}/README", "how to cite")
    return path


def staged(where: Path | str, raw: Path, **options: str) -> tuple[list[dict], list[dict]]:
    """Films and interactions as dictionaries."""
    crawler = MovieLensCrawler(str(where), **options)
    crawler.fetch(raw, no_progress)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        assert crawler.stage(raw, connection) == ("movies", "interactions")
        films = connection.sql("SELECT * FROM raw_movies").pl().to_dicts()
        acts = connection.sql("SELECT * FROM raw_interactions ORDER BY line").pl().to_dicts()
    return films, acts


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_from_folder_and_zip(name: str, packed: bool, tmp_path: Path) -> None:
    files = FORMATS[name]
    where = (
        write_zip(tmp_path / "ml.zip", files) if packed else write_folder(tmp_path / "ml", files)
    )
    films, acts = staged(where, tmp_path / "raw")
    ids = TMDB_IDS.get(name, FOREIGN_IDS)
    assert [film["movie_id"] for film in films] == ids
    assert [film["title"] for film in films] == ["Toy Story", "The Matrix", "Nobody Knows"]
    assert [film["year"] for film in films] == [1995, 1999, 2001]
    assert films[0]["genres"] == ["Animation", "Family", "Comedy"]
    assert films[1]["genres"] == ["Action", "Science Fiction"]
    assert films[2]["genres"] == []
    assert [film["vote_count"] for film in films] == [2, 1, 0]
    assert [film["vote_average"] for film in films] == [6.0, 10.0, None]
    assert films[0]["popularity"] > films[1]["popularity"] > films[2]["popularity"] == 0
    assert [act["user_id"] for act in acts] == ["3", "3", "9"]
    assert [act["movie_id"] for act in acts] == [ids[0], ids[1], ids[0]]
    assert [float(act["rating"]) for act in acts] == [4.0, 5.0, 2.0]
    assert {act["interaction_type"] for act in acts} == {"rating"}
    assert [act["line"] for act in acts] == [0, 1, 2]
    assert [act["timestamp"].timestamp() for act in acts] == [964982703, 964982704, 964982700]


def test_links_give_imdb_ids(tmp_path: Path) -> None:
    films, _ = staged(write_folder(tmp_path / "ml", CSV), tmp_path / "raw")
    assert [film["imdb_id"] for film in films] == ["tt0114709", "tt0133093", None]


def test_packed_files_in_a_folder(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "ml", CSV)
    (folder / "ratings.csv.gz").write_bytes(gzip.compress(CSV["ratings.csv"].encode()))
    (folder / "ratings.csv").unlink()
    _, acts = staged(folder, tmp_path / "raw")
    assert len(acts) == 3


def test_fault_4_columns_go_by_name(tmp_path: Path) -> None:
    other = "rating,timestamp,extra,movieId,userId\n4.0,964982703,x,1,3\n"
    _, acts = staged(write_folder(tmp_path / "ml", CSV | {"ratings.csv": other}), tmp_path / "raw")
    assert (acts[0]["user_id"], acts[0]["movie_id"], acts[0]["rating"]) == ("3", 862, "4.0")


def test_fault_6_bad_lines_arrive_for_quarantine(tmp_path: Path) -> None:
    text = "userId,movieId,rating,timestamp\n3,1\n3,x,4.0,964982703\n3,1,NaN,99999999999999999\n"
    films, acts = staged(
        write_folder(tmp_path / "ml", CSV | {"ratings.csv": text + "3,1,3.0,964982703,more\n"}),
        tmp_path / "raw",
    )
    assert len(acts) == 4
    assert [act["rating"] for act in acts] == [None, "4.0", "NaN", "3.0"]
    assert acts[1]["movie_id"] is None
    assert acts[2]["timestamp"] is None or acts[2]["timestamp"].year > 2100
    assert films[0]["vote_average"] == 6.0  # of the one good rating


def test_fetching_again_copies_only_what_changed(tmp_path: Path) -> None:
    folder, raw = write_folder(tmp_path / "ml", CSV), tmp_path / "raw"
    staged(folder, raw)
    before = (raw / "movies.csv").stat().st_ino
    staged(folder, raw)
    assert (raw / "movies.csv").stat().st_ino == before
    staged(write_folder(tmp_path / "other", DAT), raw)
    assert sorted(path.name for path in raw.iterdir()) == ["movies.dat", "ratings.dat"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "no MovieLens"),
        ({"ratings.csv": CSV["ratings.csv"]}, "movies.csv"),
        (CSV | {"ratings.csv": "userId,movieId,rating,timestamp\n"}, "no ratings"),
        (CSV | {"ratings.csv": ""}, "no ratings"),
        (CSV | {"ratings.csv": "user,movieId,rating,timestamp\n1,1,4,964982703\n"}, "userId"),
        (CSV | {"movies.csv": "movieId,title,genres\n"}, "no films"),
        (CSV | {"movies.csv": "movieId,name\n1,x\n"}, "title"),
        (CSV | {"links.csv": "movieId,imdbId\n1,2\n"}, "tmdbId"),
    ],
)
def test_fault_8_incomplete_releases_are_refused_by_name(
    files: dict[str, str], words: str, tmp_path: Path
) -> None:
    with pytest.raises(SourceFormatError, match=words):
        staged(write_folder(tmp_path / "ml", files), tmp_path / "raw")


def test_a_name_that_is_nothing_is_explained(tmp_path: Path) -> None:
    with pytest.raises(SourceFormatError, match="no folder, zip file or MovieLens release"):
        staged(tmp_path / "nowhere", tmp_path / "raw")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Toy Story (1995)", ("Toy Story", None, 1995)),
        ("Matrix, The (1999)", ("The Matrix", None, 1999)),
        ("Lover, The (Amant, L') (1992)", ("The Lover", "L'Amant", 1992)),
        ("Seven (a.k.a. Se7en) (1995)", ("Seven", "Se7en", 1995)),
        (
            "City of Lost Children, The (Cité des enfants perdus, La) (1995)",
            ("The City of Lost Children", "La Cité des enfants perdus", 1995),
        ),
        ("Sex, Lies, and Videotape (1989)", ("Sex, Lies, and Videotape", None, 1989)),
        ("Doctor Who (2005-) ", ("Doctor Who", None, 2005)),
        ("Babylon 5", ("Babylon 5", None, None)),
        ("(500) Days of Summer (2009)", ("(500) Days of Summer", None, 2009)),
        ("(2013)", ("(2013)", None, 2013)),
        ("", ("", None, None)),
    ],
)
def test_titles(text: str, expected: tuple[str, str | None, int | None]) -> None:
    assert clean_title(text) == expected


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """GroupLens in small: one archive with an ETag."""
    body = write_zip(tmp_path / "ml-tiny.zip", CSV).read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/ml-tiny.zip":
                self.send_error(404)
                return
            same = self.headers.get("If-None-Match") == '"v1"'
            self.send_response(304 if same else 200)
            self.send_header("ETag", '"v1"')
            self.send_header("Content-Length", "0" if same else str(len(body)))
            self.end_headers()
            if not same:
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()
        thread.join()


def test_a_release_is_downloaded_once(server: str, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    films, acts = staged("ml-tiny", raw, base_url=server)
    assert (len(films), len(acts)) == (3, 3)
    before = (raw / "ml-tiny.zip").stat().st_ino
    staged("ml-tiny", raw, base_url=server)
    assert (raw / "ml-tiny.zip").stat().st_ino == before


def test_an_unknown_release_says_so(server: str, tmp_path: Path) -> None:
    with pytest.raises(CrawlError, match="ml-none"):
        staged("ml-none", tmp_path / "raw", base_url=server)
    assert list((tmp_path / "raw").iterdir()) == []


def test_movielens_small_is_read_whole(shared_data: Path, tmp_path: Path) -> None:
    films, acts = staged(shared_data / "ml-latest-small", tmp_path / "raw")
    assert (len(films), len(acts)) == (9742, 100836)
    assert sum(film["year"] is None for film in films) <= 13
    assert sum(film["movie_id"] >= FOREIGN_ID_BASE for film in films) == 8
    assert sum(not film["genres"] for film in films) >= 34
    assert {name for film in films for name in film["genres"]} <= set(GENRES)
    assert all(act["timestamp"] is not None and act["movie_id"] for act in acts)
    assert [act["line"] for act in acts[-2:]] == [100834, 100835]
