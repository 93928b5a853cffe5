"""The guide's simulation: exchangeable users who watch well-rated films longer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from movie_mlops.data.files import replacing
from movie_mlops.data.tables import WATCH_LOG

MAX_SECONDS = 7200
BASE = 1.1
NOISE = 0.1
_CELLS = 4_000_000  # random keys drawn at once: 32 MB


class TMDBPreProcessor:
    """Draws a watch log from TMDB records.

    Every user draws 0 to `max_select_count` films, each film at most once, out of a pool that
    holds a film `int(2 ** rating)` times. Same records and seed, same log.

    Args:
        movies: records with `id`, `vote_average` and `popularity`.
        user_count: users, numbered from 0.
        max_select_count: most films of one user.
        seed: of all draws.
    """

    def __init__(
        self,
        movies: Sequence[Mapping[str, Any]],
        user_count: int = 100,
        max_select_count: int = 20,
        *,
        seed: int = 42,
    ) -> None:
        self.movies = movies
        self.user_count = user_count
        self.max_select_count = max_select_count
        self.features = pl.DataFrame(schema=WATCH_LOG.schema)
        self._random = np.random.default_rng(seed)

    @staticmethod
    def augmentation(movie: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The film's `int(2 ** rating)` copies in the draw pool."""
        feature = _feature(movie)
        return [feature] * int(2 ** feature["rating"])

    def generate_watch_second(self, rating: float) -> int:
        """Seconds watched of a film of this rating (0-10): 0 to 7200, noisy by 10 %."""
        return int(self._watch_seconds(np.array([rating]))[0])

    def selection(
        self, user_id: int, features: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """One user's rows, drawn from a pool of copies; a film once at most."""
        pool: dict[int, int] = {}
        films: dict[int, Mapping[str, Any]] = {}
        for feature in features:
            number = int(feature["content_id"])
            pool[number] = pool.get(number, 0) + 1
            films[number] = feature
        log = self._draw(
            np.array([user_id]), [films[number] for number in pool], np.array([*pool.values()])
        )
        return log.to_dicts()

    def run(self) -> pl.DataFrame:
        """Draw the log of all users (columns of the watch_log table) and keep it in `features`."""
        films = [_feature(movie) for movie in self.movies]
        # int() as in `augmentation`: the number of copies is the weight
        copies = np.array([int(2 ** film["rating"]) for film in films], dtype=np.float64)
        self.features = self._draw(np.arange(self.user_count), films, copies)
        return self.features

    def to_frame(self) -> pl.DataFrame:
        """The log of the last `run` with the columns of the watch_log table."""
        return self.features

    def plot(self, filename: str | Path = "result/watch_log.png") -> Path:
        """Save a picture of rating against watch seconds; no window opens. Returns its path."""
        from matplotlib.figure import Figure  # noqa: PLC0415 - half a second, only for pictures

        figure = Figure(figsize=(8, 5), layout="constrained")
        axes = figure.add_subplot()
        shown = self.features.head(20_000)
        axes.scatter(shown["rating"].to_numpy(), shown["watch_seconds"].to_numpy(), s=8, alpha=0.4)
        axes.set(
            xlabel="rating", ylabel="watch seconds", title="Well-rated films are watched longer"
        )
        path = _with_suffix(filename, ".png")
        with replacing(path) as partial:
            figure.savefig(partial, format="png", dpi=110)
        return path

    def save(self, filename: str | Path) -> Path:
        """Write the log as CSV; `.csv` is added when missing. Returns the path."""
        path = _with_suffix(filename, ".csv")
        with replacing(path) as partial:
            self.features.write_csv(partial)
        return path

    def _watch_seconds(self, ratings: np.ndarray) -> np.ndarray:
        low = BASE**-5
        seconds = MAX_SECONDS * (BASE ** (ratings - 5) - low) / (BASE**5 - low)
        noisy = seconds + self._random.normal(0.0, 1.0, ratings.shape) * NOISE * seconds
        clipped: np.ndarray = np.clip(noisy, 0, MAX_SECONDS).astype(np.int64)
        return clipped

    def _draw(
        self, users: np.ndarray, films: Sequence[Mapping[str, Any]], copies: np.ndarray
    ) -> pl.DataFrame:
        most = min(self.max_select_count, len(films))
        counts = self._random.integers(0, most + 1, len(users))
        picked = [np.empty((0, 2), dtype=np.int64)]
        step = max(1, _CELLS // max(1, len(films)))
        for start in range(0, len(users) if most else 0, step):
            chunk = slice(start, start + step)
            # the k smallest of Exp(1)/weight = k draws from the pool where repeats do not count
            keys = self._random.standard_exponential((len(users[chunk]), len(films))) / copies
            nearest = np.argpartition(keys, most - 1, axis=1)[:, :most]
            order = np.take_along_axis(keys, nearest, axis=1).argsort(axis=1)
            chosen = np.take_along_axis(nearest, order, axis=1)
            row, place = np.nonzero(np.arange(most) < counts[chunk, None])
            picked.append(np.column_stack([users[chunk][row], chosen[row, place]]))
        user, film = np.concatenate(picked).T
        ids, ratings, popularity = (
            np.array([item[name] for item in films], dtype=kind)[film]
            for name, kind in (("content_id", "i8"), ("rating", "f8"), ("popularity", "f8"))
        )
        return pl.DataFrame(
            {
                "user_id": user,
                "content_id": ids,
                "watch_seconds": self._watch_seconds(ratings),
                "rating": ratings,
                "popularity": popularity,
            },
            schema=WATCH_LOG.schema,
        )


def _feature(movie: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "content_id": int(movie["id"]),
        "rating": float(movie.get("vote_average") or 0.0),
        "popularity": float(movie.get("popularity") or 0.0),
    }


def _with_suffix(filename: str | Path, suffix: str) -> Path:
    path = Path(filename)
    return path if path.suffix == suffix else path.with_name(path.name + suffix)
