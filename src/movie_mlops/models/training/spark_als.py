"""Implicit ALS fitted by Spark's MLlib, for what outgrows one machine; served as `implicit_als`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from movie_mlops.data.engine import TableEngine
from movie_mlops.data.engine_spark import SparkEngine, SparkTables, translated
from movie_mlops.domain.errors import ConfigurationError, TrainingDataError
from movie_mlops.features.engineering.interaction_features import POSITIVE
from movie_mlops.models.algorithms import create
from movie_mlops.models.algorithms.base import Arrays, Card, IntArray, TrainingHistories
from movie_mlops.models.algorithms.implicit_als import ImplicitAls

FEWEST_BLOCKS = 4
_BUCKETS = 256

_PAIRS = f"""
    WITH liked AS (SELECT DISTINCT user_id, movie_id FROM interactions WHERE {POSITIVE}),
    people AS (
        SELECT user_id, bucket, row_number() OVER (PARTITION BY bucket ORDER BY user_id) AS place
        FROM (SELECT DISTINCT user_id, pmod(hash(user_id), {_BUCKETS}) AS bucket FROM liked)
    )
    SELECT CAST((place - 1) * {_BUCKETS} + bucket AS INT) AS user, film
    FROM liked JOIN people USING (user_id) JOIN films USING (movie_id)
    """  # noqa: S608 - constants
"""Spark's SQL: users as whole numbers without sorting them all in one place."""


class SparkAls(ImplicitAls):
    """`ImplicitAls` with its factors solved by Spark; the artifact is the same.

    MLlib minimises c (1 - x.y)^2 with c = 1 + alpha for what was watched and 1 for what was not;
    ours has the weights 1 + w and w and the target 1 / (1 + w). With alpha = 1 / w, MLlib's item
    factors times sqrt(1 / (1 + w)) and the ridge times (1 + w) the two are one problem, but for
    the ridge: MLlib's grows with a row's own count n alone, ours with n + w * (all others). The
    number here makes both equal on average, over users as over films.
    """

    def __init__(self, engine: SparkEngine, **parameters: Any) -> None:
        super().__init__(**parameters)
        self._engine = engine
        if not self._parameters["unobserved_weight"] > 0:
            message = "implicit_als on Spark needs an unobserved_weight above 0"
            raise ConfigurationError(message)

    def fit(self, histories: TrainingHistories, seed: int = 0) -> Self:
        """Bring the histories to Spark and solve there.

        The same input, seed and number of cores give the same factors but for rounding.

        Raises:
            TrainingDataError: no interaction at all.
            EngineUnavailableError: Spark fails.
        """
        users = np.repeat(
            np.arange(histories.user_count, dtype=np.int32), np.diff(histories.indptr)
        )
        pairs = pl.DataFrame({"user": users, "film": histories.items.astype(np.int32)})
        with self._engine.open() as tables:
            tables.read("pairs", pairs.unique())
            return self._solve_on(tables, histories.movie_ids, seed)

    def fit_files(self, interactions: Sequence[Path], movie_ids: IntArray, seed: int = 0) -> Self:
        """Fit from Parquet files of the interactions table; its rows never come to this process.

        Raises:
            TrainingDataError: no positive interaction with a film of `movie_ids`.
            EngineUnavailableError: Spark fails.
        """
        vocabulary = np.unique(np.asarray(movie_ids, np.int64))
        places = np.arange(len(vocabulary), dtype=np.int32)
        with self._engine.open() as tables:
            tables.read("interactions", interactions)
            tables.read("films", pl.DataFrame({"movie_id": vocabulary, "film": places}))
            with translated("number the users"):
                tables.session.sql(_PAIRS).createOrReplaceTempView("pairs")
            return self._solve_on(tables, vocabulary, seed)

    def artifact(self) -> tuple[Arrays, Card]:
        """That of `ImplicitAls`; the card tells who solved."""
        arrays, card = super().artifact()
        return arrays, card | {"fitted_on": "spark"}

    def _solve_on(self, tables: SparkTables, movie_ids: IntArray, seed: int) -> Self:
        from pyspark.ml.recommendation import ALS  # noqa: PLC0415 (the extra `spark`)

        tables.keep("kept_pairs", "SELECT user, film, CAST(1 AS FLOAT) AS weight FROM pairs")
        counted = tables.frame("SELECT film, count(*) AS n FROM kept_pairs GROUP BY film")
        users = tables.frame("SELECT count(DISTINCT user) AS n FROM kept_pairs").item()
        counts = np.zeros(len(movie_ids), np.int64)
        counts[counted["film"].to_numpy()] = counted["n"].to_numpy()
        total = int(counts.sum())
        if total == 0:
            message = "no positive interaction to learn from: collect some first"
            raise TrainingDataError(message)
        if self.progress is not None:
            self.progress(f"Spark solves for {users:,} users", 0, None)
        weight = self._parameters["unobserved_weight"]
        blocks = max(FEWEST_BLOCKS, 2 * tables.session.sparkContext.defaultParallelism)
        dim = self._dim(total, len(movie_ids))
        with translated("fit ALS"):
            solver = ALS(
                rank=dim,
                maxIter=int(self._parameters["sweeps"]),
                regParam=self._spark_ridge(total, users, len(movie_ids)),
                alpha=1 / weight,
                implicitPrefs=True,
                userCol="user",
                itemCol="film",
                ratingCol="weight",
                numUserBlocks=blocks,
                numItemBlocks=blocks,
                seed=seed,
            )
            solved = solver.fit(tables.session.table("kept_pairs")).itemFactors.toArrow()
        factors = np.zeros((len(movie_ids), dim), np.float32)
        rows = solved["features"].combine_chunks().flatten().to_numpy()
        factors[solved["id"].to_numpy()] = rows.reshape(-1, dim) / np.sqrt(1 + weight)
        self._set(movie_ids, (counts / total).astype(np.float32), factors)
        return self

    def _spark_ridge(self, total: int, users: int, films: int) -> float:
        """MLlib's ridge per interaction that is ours on average."""
        weight = self._parameters["unobserved_weight"]
        of_users = users * self._ridge(total / users, films)
        of_films = films * self._ridge(total / films, users)
        return float((1 + weight) / weight * np.sqrt(of_users * of_films) / total)


def create_on(engine: TableEngine, name: str, **parameters: Any) -> Any:
    """`algorithms.create`, but what Spark can fit is fitted there.

    Raises:
        ConfigurationError: no algorithm has this name, or not these parameters.
    """
    if name != ImplicitAls.name or not isinstance(engine, SparkEngine):
        return create(name, **parameters)
    try:
        return SparkAls(engine, **parameters)
    except TypeError as error:
        message = f"{name} does not take these parameters: {error}"
        raise ConfigurationError(message) from error
