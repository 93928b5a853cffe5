"""What viewers were answered, as windows: a version's first answers are what later ones keep to."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path

import polars as pl

from movie_mlops.data.lake import Lake
from movie_mlops.domain.versions import MOVIE_PREDICTOR, MOVIE_RECOMMENDER
from movie_mlops.models.serving.exposure_store import KEPT_SECONDS, ExposureStore
from movie_mlops.models.serving.exposures import Shown, Written, written
from movie_mlops.monitoring.drift_windows import Feature
from movie_mlops.pipelines.drift_sources import ANSWERS, RATINGS, Frames, answered, windows

KEPT_ROWS = 50_000
_KEPT_REFERENCES = 6
_TIME = pl.Datetime("us", "UTC")


class AnswerWindows:
    """Answers among the exposures; references lie in `work`, without users' ids."""

    def __init__(
        self, open_exposures: Callable[[], ExposureStore], work: Path, min_answers: int
    ) -> None:
        self._open_exposures, self._work, self._fewest = open_exposures, work, min_answers

    def frames(self, version: str, lake: Lake, window: timedelta, now: datetime) -> list[Frames]:
        """Lists of this version and predicted ratings; empty until each has a reference.

        Raises:
            EngineUnavailableError: the exposures do not answer.
        """
        lists, ratings = self._read(version, now)
        shown = answered(lists, lake.read("movies"))
        found = (
            self._windows(f"lists-{version}", ANSWERS, shown, window),
            self._windows("ratings", RATINGS, ratings, window),
        )
        return [frames for frames in found if frames is not None]

    def _windows(
        self, name: str, features: tuple[Feature, ...], rows: pl.DataFrame, window: timedelta
    ) -> Frames | None:
        path = self._work / f"first-{name}.parquet"
        if not path.exists():
            if len(rows) >= self._fewest:
                self._keep(path, rows.head(KEPT_ROWS))
            return None
        before = pl.read_parquet(path)
        after = rows.filter(pl.col("timestamp") > before.get_column("timestamp").max())
        # the same person has another number than then; so the bound errs on the safe side
        shift = int(before.get_column("who").max()) + 1  # type: ignore[arg-type]
        after = after.with_columns(pl.col("who") + shift)
        return windows(features, before, after, window)

    def _keep(self, path: Path, rows: pl.DataFrame) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".partial")
        rows.write_parquet(beside)
        beside.replace(path)
        old = sorted(path.parent.glob("first-lists-*"), key=lambda each: each.stat().st_mtime_ns)
        for file in old[:-_KEPT_REFERENCES]:
            file.unlink()

    def _read(self, version: str, now: datetime) -> tuple[pl.DataFrame, pl.DataFrame]:
        since = round(1000 * (now.timestamp() - KEPT_SECONDS))
        store = self._open_exposures()
        # the latest ones of a day that may have a million
        lists: deque[tuple[int, int, str, tuple[int, ...]]] = deque(maxlen=KEPT_ROWS)
        ratings: deque[tuple[int, int, float]] = deque(maxlen=KEPT_ROWS)
        number = count()
        users: dict[str, int] = {}
        try:
            for batch in written(store, since):
                for at, shown in _answers(batch):
                    if shown.kind == "list" and shown.version == version:
                        if shown.model == MOVIE_RECOMMENDER:
                            who = users.setdefault(shown.user_id, len(users))
                            lists.append((who, at, shown.path, shown.items))
                    elif shown.kind == "rating" and shown.model == MOVIE_PREDICTOR:
                        ratings.extend((next(number), at, each) for each in shown.ratings)
        finally:
            store.close()
        return (
            _frame(lists, {"path": pl.String(), "items": pl.List(pl.Int64)}),
            _frame(ratings, {"predicted_rating": pl.Float64()}),
        )


def _answers(batch: Written) -> Iterator[tuple[int, Shown]]:
    for place, at in zip(batch.places.tolist(), batch.at_ms.tolist(), strict=True):
        yield at, batch.shown[place]


def _frame(rows: Iterable[tuple[object, ...]], more: dict[str, pl.DataType]) -> pl.DataFrame:
    schema = {"who": pl.Int64(), "at": pl.Int64(), **more}
    frame = pl.DataFrame(list(rows), schema=schema, orient="row")
    return frame.with_columns(timestamp=(pl.col("at") * 1000).cast(_TIME)).drop("at")
