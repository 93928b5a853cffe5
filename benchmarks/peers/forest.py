"""The guide's forest, or a constant, as every peer serves it; fitted at start."""

import os

import numpy as np
from sklearn.ensemble import RandomForestRegressor


def predictor():
    """A function from rows [n, 3] (year, runtime, votes) to ratings [n]."""
    if os.environ.get("PREDICTOR") == "constant":
        return lambda rows: np.full(len(rows), 6.0)
    rng = np.random.default_rng(0)
    columns = (rng.integers(1950, 2020, 2_000), rng.integers(60, 180, 2_000),
               rng.integers(100, 10_000, 2_000))  # fmt: skip
    rows = np.column_stack(columns).astype(float)
    ratings = 4 + rows[:, 1] / 60 + rng.normal(0, 0.3, 2_000)
    return RandomForestRegressor(100, random_state=0).fit(rows, ratings).predict
