"""Training histories from the interactions table, and the NCF paper's split from its files."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from movie_mlops.domain.errors import SourceFormatError
from movie_mlops.domain.interactions import POSITIVE_RATING, InteractionType, is_positive
from movie_mlops.models.algorithms.base import IntArray, TrainingHistories

_ACTS = [kind.value for kind in InteractionType if is_positive(kind, None)]


def build_histories(
    interactions: pl.DataFrame, movie_ids: IntArray, *, every_rating: bool = False
) -> TrainingHistories:
    """The positive rows of the interactions table as histories, one row per user and film.

    Rows are sorted by time, then line; of several rows of one user and film the first stays.
    Films that `movie_ids` (any order) lacks are left out; users are in order of their ids.
    `every_rating` takes ratings below 3 as well, as the evaluation of data sets does.
    """
    least = 0.0 if every_rating else POSITIVE_RATING
    vocabulary = np.unique(np.asarray(movie_ids, np.int64))
    positive = (
        interactions.lazy()
        .filter(
            pl.col("interaction_type").is_in(_ACTS)
            | ((pl.col("interaction_type") == InteractionType.RATING) & (pl.col("rating") >= least))
        )
        .select("user_id", "movie_id", pl.col("timestamp").dt.timestamp("us"), "line")
        .sort("timestamp", "line", maintain_order=True)
        .unique(["user_id", "movie_id"], keep="first", maintain_order=True)
        .join(
            pl.LazyFrame({"movie_id": vocabulary}).with_row_index("position"),
            on="movie_id",
            maintain_order="left",
        )
        .sort("user_id", maintain_order=True)
        .collect()
    )
    return _histories(
        vocabulary,
        positive["user_id"],
        positive["position"].to_numpy().astype(np.int32),
        positive["timestamp"].to_numpy().astype(np.int64),
    )


@dataclass(frozen=True, slots=True)
class NcfSplit:
    """The split of He et al. 2017: per user one held-out film and some 99 negatives.

    `users` are positions in `train`; `held_out` [users] and `negatives` [users, most] are
    positions in `train.movie_ids`, -1 where a user has fewer negatives.
    """

    train: TrainingHistories
    users: IntArray
    held_out: NDArray[np.int32]
    negatives: NDArray[np.int32]


def read_ncf_split(where: Path) -> NcfSplit:
    """Read `*.train.rating`, `*.test.rating`, `*.test.negative` from a folder or path prefix.

    Training rows are sorted by their time stamp, then by line. The catalogue is every film
    that any of the three files names.

    Raises:
        SourceFormatError: a file is missing or malformed, or a folder holds several splits.
    """
    prefix = _ncf_prefix(where)
    try:
        train = _ratings(Path(f"{prefix}.train.rating")).sort("time", maintain_order=True)
        test = _ratings(Path(f"{prefix}.test.rating")).unique("user", keep="first")
        given = _negatives(Path(f"{prefix}.test.negative"))
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        message = f"{prefix}.*: no split of the NCF paper: {error}"
        raise SourceFormatError(message) from error
    train = train.unique(["user", "film"], keep="first", maintain_order=True)
    films = np.unique(
        np.concatenate(
            [train["film"].to_numpy(), test["film"].to_numpy(), *given.values(), np.empty(0, int)]
        )
    ).astype(np.int64)
    test = test.join(train.select("user").unique(), on="user", how="semi").sort("user")
    train = train.sort("user", maintain_order=True)
    histories = _histories(
        films,
        train["user"].cast(pl.String),
        np.searchsorted(films, train["film"].to_numpy()).astype(np.int32),
        train["time"].to_numpy().astype(np.int64) * 1_000_000,
    )
    users = np.searchsorted(train["user"].unique().sort().to_numpy(), test["user"].to_numpy())
    most = max((len(films_of) for films_of in given.values()), default=0)
    negatives = np.full((len(test), most), -1, np.int32)
    for row, user in enumerate(test["user"]):
        known = given.get(user, np.empty(0, np.int64))
        negatives[row, : len(known)] = np.searchsorted(films, known)
    held_out = np.searchsorted(films, test["film"].to_numpy()).astype(np.int32)
    return NcfSplit(histories, users.astype(np.int64), held_out, negatives)


def is_ncf_split(where: Path) -> bool:
    """Whether a folder or path prefix names a split of the NCF paper."""
    try:
        _ncf_prefix(where)
    except SourceFormatError:
        return False
    return True


def _ncf_prefix(where: Path) -> str:
    text = re.sub(r"\.(train|test)\.(rating|negative)$", "", str(where))
    if Path(f"{text}.train.rating").is_file():
        return text
    found = sorted(where.glob("*.train.rating")) if where.is_dir() else []
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        message = f"{where} must name one split; *.train.rating there: {names}"
        raise SourceFormatError(message)
    return str(found[0]).removesuffix(".train.rating")


def _ratings(path: Path) -> pl.DataFrame:
    names = ["user", "film", "rating", "time"]
    return pl.read_csv(path, separator="\t", has_header=False, new_columns=names).select(
        pl.col("user", "film").cast(pl.Int64), pl.col("time").cast(pl.Int64)
    )


def _negatives(path: Path) -> dict[int, IntArray]:
    """User to negative films; each line begins with `(user,film)`."""
    given = {}
    with path.open(encoding="ascii") as stream:
        for line in stream:
            first, *rest = line.split()
            user = int(first.strip("()").split(",")[0])
            given[user] = np.array(rest, np.int64)
    return given


def _histories(
    movie_ids: IntArray, users: pl.Series, items: NDArray[np.int32], times: IntArray
) -> TrainingHistories:
    """Histories from rows that are sorted by user, then time."""
    runs = users.rle().struct.unnest() if len(users) else pl.DataFrame({"len": [], "value": []})
    lengths = runs["len"].to_numpy().astype(np.int64)
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    return TrainingHistories(movie_ids, tuple(runs["value"].to_list()), indptr, items, times)
