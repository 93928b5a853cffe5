"""MovieLens archives: every released format, from a folder, a zip file or GroupLens itself."""

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from movie_mlops.data.crawlers.archives import download
from movie_mlops.data.crawlers.base import Progress, no_progress
from movie_mlops.data.crawlers.movielens_archives import (
    LAYOUTS,
    LINKS,
    Layout,
    layout_of,
    unpack_folder,
    unpack_zip,
)
from movie_mlops.domain.errors import SourceFormatError
from movie_mlops.domain.movies import FOREIGN_ID_BASE, GENRES

if TYPE_CHECKING:
    import duckdb

DOWNLOAD_URL = "https://files.grouplens.org/datasets/movielens"
LARGEST_FILM_FILE_BYTES = 200_000_000


_RATING_COLUMNS = ("userId", "movieId", "rating", "timestamp")

_GENRES = {name: name for name in GENRES} | {
    "Sci-Fi": "Science Fiction",
    "Children": "Family",
    "Children's": "Family",
    "Musical": "Music",
    "Film-Noir": "Crime",
}
# The 19 flags that end a line of u.item; the first means unknown.
_FLAGS = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
)  # fmt: skip

_YEAR = re.compile(r"\((\d{4})(?:[-–]\d{0,4})?\)\s*$")
_OTHER_TITLE = re.compile(
    r"^(?P<title>.*\S)\s*\((?:a\.?k\.?a\.?\s+)?(?P<other>[^()]+)\)$", re.IGNORECASE
)
_ARTICLE = re.compile(
    r"^(?P<rest>.+), (?P<article>The|A|An|La|Le|Les|L'|Il|Lo|I|Gli|El|Los|Las|Der|Die|Das|Den|Det|"
    r"De|Het|Un|Une|Una|Uma|O|Os|As|Ein|Eine|En|Et)$"
)


class MovieLensCrawler:
    """Films and ratings of one MovieLens release.

    `where` is a folder, a zip file, or the name of a release (`ml-latest-small`, `ml-1m`),
    which is downloaded. Films keep their TMDB id when links.csv has one, else 10^9 + the
    MovieLens id. GroupLens's terms: research use, no redistribution without its conditions.
    """

    source = "movielens"

    def __init__(self, where: str, base_url: str = DOWNLOAD_URL) -> None:
        self._where = where
        self._base_url = base_url

    def fetch(self, raw: Path, progress: Progress = no_progress) -> None:
        """Unpack the release's files into `raw`; files of another format go. See the port."""
        raw.mkdir(parents=True, exist_ok=True)
        place = Path(self._where)
        if place.is_dir():
            layout = unpack_folder(place, raw, progress)
        elif place.is_file():
            layout = unpack_zip(place, raw, progress)
        elif re.fullmatch(r"ml-[a-z0-9-]+", self._where):
            url = f"{self._base_url}/{self._where}.zip"
            layout = unpack_zip(download(url, raw / f"{self._where}.zip", progress), raw, progress)
        else:
            message = f"{self._where!r} is no folder, zip file or MovieLens release (ml-…)"
            raise SourceFormatError(message)
        for other in LAYOUTS:
            for name in set(other.files) - set(layout.files):
                (raw / name).unlink(missing_ok=True)

    def stage(self, raw: Path, connection: "duckdb.DuckDBPyConnection") -> tuple[str, ...]:
        """Stage movies and interactions; films are parsed here, ratings are streamed."""
        layout = layout_of(raw)
        films = _films(raw, layout)  # read by name in the next line
        connection.execute("CREATE OR REPLACE TEMP TABLE movielens_films AS SELECT * FROM films")
        del films
        places = _rating_places(raw / layout.ratings, layout)
        fields = ", ".join(f"trim(part[{place + 1}]) AS {name}" for name, place in places.items())
        connection.execute(
            _RATINGS.format(
                fields=fields,
                path=_literal(raw / layout.ratings),
                separator=layout.separator,
                skip=int(layout.headers),
            )
        )
        connection.execute(_INTERACTIONS.format(base=FOREIGN_ID_BASE))
        connection.execute(_MOVIES)
        return ("movies", "interactions")


# Latin-1 has a character for every byte: a broken line arrives as text that no cast takes, and
# ends in quarantine in place of ending the import. A field too few is NULL, one too many is cut.
_RATINGS = """
CREATE OR REPLACE TEMP VIEW movielens_ratings AS
SELECT {fields}, line
FROM (SELECT string_split(replace(text, 'ï»¿', ''), '{separator}') AS part, line
      FROM (SELECT text, row_number() OVER () - 1 AS line
            FROM read_csv({path}, columns={{'text': 'VARCHAR'}}, auto_detect=false, delim='\x01',
                          quote='', escape='', header=false, skip={skip}, encoding='latin-1'))
      WHERE trim(text) <> '')
"""

_INTERACTIONS = """
CREATE OR REPLACE TEMP VIEW raw_interactions AS
SELECT r.userId AS user_id,
       coalesce(f.movie_id, {base} + TRY_CAST(r.movieId AS BIGINT)) AS movie_id,
       'rating' AS interaction_type, r.rating AS rating,
       TRY(to_timestamp(TRY_CAST(r.timestamp AS DOUBLE))) AS timestamp, r.line AS line
FROM movielens_ratings r
LEFT JOIN movielens_films f ON f.movielens_id = TRY_CAST(r.movieId AS BIGINT)
"""

_MOVIES = """
CREATE OR REPLACE TEMP VIEW raw_movies AS
SELECT f.movie_id, f.title, f.title AS title_en, f.original_title, f.year, f.genres,
       2 * v.mean AS vote_average, coalesce(v.votes, 0) AS vote_count,
       ln(1 + coalesce(v.votes, 0)) AS popularity, false AS adult, f.imdb_id
FROM movielens_films f
LEFT JOIN (SELECT TRY_CAST(movieId AS BIGINT) AS movielens_id, count(*) AS votes,
                  avg(TRY_CAST(rating AS DOUBLE)) AS mean
           FROM movielens_ratings
           WHERE TRY_CAST(rating AS DOUBLE) BETWEEN 0.5 AND 5 GROUP BY 1) v USING (movielens_id)
ORDER BY f.position
"""


def clean_title(text: str) -> tuple[str, str | None, int | None]:
    """Title, original title and year of "City of Lost Children, The (Cité …, La) (1995)"."""
    text = text.strip()
    found = _YEAR.search(text)
    year = int(found.group(1)) if found else None
    title = text[: found.start()].strip() if found else text
    original = None
    while match := _OTHER_TITLE.match(title):
        title, original = match["title"], _article_first(match["other"].strip())
    return _article_first(title) or text, original, year


def _article_first(title: str) -> str:
    match = _ARTICLE.match(title)
    if not match:
        return title
    article = match["article"]
    return f"{article}{'' if article.endswith(chr(39)) else ' '}{match['rest']}"


def _films(raw: Path, layout: Layout) -> pl.DataFrame:
    links = _links(raw / LINKS) if layout.headers else {}
    rows = []
    for movielens_id, text, genres in _film_rows(raw / layout.films, layout):
        title, original, year = clean_title(text)
        tmdb, imdb = links.get(movielens_id, (None, None))
        known = dict.fromkeys(_GENRES[name] for name in genres if name in _GENRES)
        movie_id = tmdb or FOREIGN_ID_BASE + movielens_id
        rows.append((movielens_id, movie_id, title, original, year, list(known), imdb))
    if not rows:
        message = f"{raw / layout.films} holds no films"
        raise SourceFormatError(message)
    schema = {
        "movielens_id": pl.Int64(), "movie_id": pl.Int64(), "title": pl.String(),
        "original_title": pl.String(), "year": pl.Int64(), "genres": pl.List(pl.String()),
        "imdb_id": pl.String(),
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row").with_row_index("position")


def _film_rows(path: Path, layout: Layout) -> Iterator[tuple[int, str, list[str]]]:
    """MovieLens id, title with year, MovieLens genre names; lines without an id are left out."""
    if layout.headers:
        reader = csv.DictReader(_text(path).splitlines())
        _require(path, ("movieId", "title", "genres"), reader.fieldnames or ())
        for row in reader:
            if (row["movieId"] or "").strip().isdecimal():
                yield int(row["movieId"]), row["title"] or "", (row["genres"] or "").split("|")
        return
    for line in _text(path).splitlines():
        fields = line.split(layout.film_separator)
        if not fields[0].strip().isdecimal() or len(fields) < 3:
            continue
        if layout.film_separator == "|":
            flags = fields[-len(_FLAGS) :]
            genres = [name for name, flag in zip(_FLAGS, flags, strict=False) if flag == "1"]
        else:
            genres = fields[2].strip().split("|")
        yield int(fields[0]), fields[1], genres


def _links(path: Path) -> dict[int, tuple[int | None, str | None]]:
    """MovieLens id to TMDB id and IMDb id; empty when the release has no links."""
    if not path.is_file():
        return {}
    reader = csv.DictReader(_text(path).splitlines())
    _require(path, ("movieId", "imdbId", "tmdbId"), reader.fieldnames or ())
    links = {}
    for row in reader:
        if (row["movieId"] or "").isdecimal():
            tmdb, imdb = (row["tmdbId"] or "").strip(), (row["imdbId"] or "").strip()
            links[int(row["movieId"])] = (
                int(tmdb) if tmdb.isdecimal() and int(tmdb) else None,
                f"tt{imdb.zfill(7)}" if imdb.isdecimal() else None,
            )
    return links


def _rating_places(path: Path, layout: Layout) -> dict[str, int]:
    """Where each rating column stands; columns with a header go by name."""
    with path.open("rb") as stream:
        lines = [stream.readline(100_000), stream.readline(100_000)]
    if not lines[int(layout.headers)].strip():
        message = f"{path} holds no ratings"
        raise SourceFormatError(message)
    if not layout.headers:
        return {name: place for place, name in enumerate(_RATING_COLUMNS)}
    header = [name.strip('" \r\n') for name in lines[0].decode("utf-8-sig", "replace").split(",")]
    _require(path, _RATING_COLUMNS, header)
    return {name: header.index(name) for name in _RATING_COLUMNS}


def _require(path: Path, columns: tuple[str, ...], header: Sequence[str]) -> None:
    missing = [name for name in columns if name not in header]
    if missing:
        message = f"{path} lacks the column {missing[0]!r}; it has {', '.join(header)}"
        raise SourceFormatError(message)


def _text(path: Path) -> str:
    """A film file as text: UTF-8 with or without mark, else Latin-1; NUL characters go."""
    if path.stat().st_size > LARGEST_FILM_FILE_BYTES:
        message = f"{path} is larger than any list of films: refused"
        raise SourceFormatError(message)
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    return text.replace("\0", "")


def _literal(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
