"""IMDb's title.basics and title.ratings: downloaded, checked, streamed by DuckDB."""

from pathlib import Path
from typing import TYPE_CHECKING

from movie_mlops.data.crawlers.archives import copy_whole, download, opened
from movie_mlops.data.crawlers.base import Progress, no_progress
from movie_mlops.domain.errors import SourceFormatError
from movie_mlops.domain.movies import FOREIGN_ID_BASE

if TYPE_CHECKING:
    import duckdb

DOWNLOAD_URL = "https://datasets.imdbws.com"
FILES = ("title.basics.tsv", "title.ratings.tsv")
LONGEST_LINE_BYTES = 16_000_000
MIN_VOTES = 100

_HEADERS = {
    "title.basics.tsv": (
        "tconst", "titleType", "primaryTitle", "originalTitle", "isAdult", "startYear",
        "runtimeMinutes", "genres",
    ),
    "title.ratings.tsv": ("tconst", "averageRating", "numVotes"),
}  # fmt: skip

_GENRES = {"Sci-Fi": "Science Fiction", "Musical": "Music", "Film-Noir": "Crime"}


class ImdbCrawler:
    """Films with enough votes, from a folder of IMDb's files or from IMDb itself.

    Films are `titleType = movie` with at least `min_votes` votes; ids are 10^9 + the number
    in tconst. IMDb's terms: personal and non-commercial use; the files are never passed on.
    """

    source = "imdb"

    def __init__(self, where: str = "", min_votes: int = MIN_VOTES) -> None:
        self._where = where
        self._min_votes = min_votes

    def fetch(self, raw: Path, progress: Progress = no_progress) -> None:
        """Unpack both files into `raw`, from the folder or by download. See the port."""
        raw.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            source = self._packed(raw, name, progress)
            with opened(source) as stream:
                copy_whole(stream, source, raw / name, progress)

    def stage(self, raw: Path, connection: "duckdb.DuckDBPyConnection") -> tuple[str, ...]:
        r"""Stage the movies table; `\N` is missing, quotes are text, columns go by name."""
        for name in FILES:
            path = raw / name
            header = _header(path)
            missing = [column for column in _HEADERS[name] if column not in header]
            if missing:
                message = f"{path} lacks the column {missing[0]!r}; IMDb has {_HEADERS[name]}"
                raise SourceFormatError(message)
            connection.execute(_view_of(name, path, header))
        connection.execute(_MOVIES.format(base=FOREIGN_ID_BASE, min_votes=self._min_votes))
        return ("movies",)

    def _packed(self, raw: Path, name: str, progress: Progress) -> Path:
        if not self._where:
            return download(f"{DOWNLOAD_URL}/{name}.gz", raw / f"{name}.gz", progress)
        for candidate in (Path(self._where) / f"{name}.gz", Path(self._where) / name):
            if candidate.is_file():
                return candidate
        message = f"{self._where} holds neither {name}.gz nor {name}"
        raise SourceFormatError(message)


_GENRE_SQL = "x"
for _imdb, _tmdb in _GENRES.items():
    _GENRE_SQL = f"CASE WHEN x = '{_imdb}' THEN '{_tmdb}' ELSE {_GENRE_SQL} END"
# a line with too few or too many fields keeps its tconst but no title, so it goes to quarantine
_MOVIES = f"""
CREATE OR REPLACE TEMP VIEW raw_movies AS
SELECT {{base}} + TRY_CAST(substr(b.tconst, 3) AS BIGINT) AS movie_id,
       b.primaryTitle AS title, b.originalTitle AS original_title, b.primaryTitle AS title_en,
       b.startYear AS year, b.runtimeMinutes AS runtime,
       list_transform(string_split(coalesce(b.genres, ''), ','), lambda x: {_GENRE_SQL})
           .list_filter(lambda x: x <> '') AS genres,
       []::VARCHAR[] AS directors, []::VARCHAR[] AS "cast",
       r.averageRating AS vote_average, r.numVotes AS vote_count,
       ln(1 + greatest(TRY_CAST(r.numVotes AS DOUBLE), 0)) AS popularity,
       coalesce(b.isAdult = '1', false) AS adult, b.tconst AS imdb_id
FROM imdb_basics b JOIN imdb_ratings r USING (tconst)
WHERE (b.titleType = 'movie' OR b.titleType IS NULL)
  AND (TRY_CAST(r.numVotes AS BIGINT) >= {{min_votes}} OR TRY_CAST(r.numVotes AS BIGINT) IS NULL)
"""  # noqa: S608 (constants)


def _view_of(name: str, path: Path, header: list[str]) -> str:
    """A view with IMDb's columns; its mark of the missing is NULL, quotes are just text."""
    fields = []
    for column in _HEADERS[name]:
        at = header.index(column) + 1
        whole = "true" if column == "tconst" else f"len(f) = {len(header)}"
        fields.append(f"CASE WHEN {whole} THEN nullif(f[{at}], '\\N') END AS {column}")
    return (
        f"CREATE OR REPLACE TEMP VIEW imdb_{name.split('.')[1]} AS "  # noqa: S608 (our own names)
        f"SELECT {', '.join(fields)} FROM (SELECT string_split(rtrim(line, chr(13)), chr(9)) AS f "
        f"FROM read_csv({_literal(path)}, columns={{'line': 'VARCHAR'}}, delim='\x1f', quote='', "
        f"escape='', header=false, skip=1, auto_detect=false, "
        f"max_line_size={LONGEST_LINE_BYTES}, ignore_errors=true))"
    )


def _literal(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _header(path: Path) -> list[str]:
    try:
        with path.open("rb") as stream:
            first = stream.readline(100_000)
    except OSError as error:
        message = f"{path} cannot be read: {error}"
        raise SourceFormatError(message) from error
    text = first.decode("utf-8-sig", errors="replace").strip("\r\n")
    if not text:
        message = f"{path} is empty"
        raise SourceFormatError(message)
    return text.split("\t")
