"""Evidently's page of two windows; needs the extra `reports`."""

import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import polars as pl

from movie_mlops.domain.errors import ConfigurationError


def write_html(pairs: Sequence[tuple[pl.DataFrame, pl.DataFrame]], path: Path) -> None:
    """One page about all pairs (reference, current); their columns have distinct names.

    The page is Evidently's own reading with its own default bounds; alarms are ours.

    Raises:
        ConfigurationError: the extra `reports` is not installed.
    """
    try:
        with warnings.catch_warnings():  # of its own dependencies, which it calls when imported
            warnings.simplefilter("ignore")
            evidently: Any = import_module("evidently")  # takes ten seconds
            presets: Any = import_module("evidently.presets")
    except ImportError as error:
        message = "Evidently is not installed: `pip install 'movie-mlops[reports]'`"
        raise ConfigurationError(message) from error
    reference = pl.concat([_used(before, now)[0] for before, now in pairs], how="horizontal")
    current = pl.concat([_used(before, now)[1] for before, now in pairs], how="horizontal")
    numbers = [name for name, kind in reference.schema.items() if kind.is_numeric()]
    definition = evidently.DataDefinition(
        numerical_columns=numbers,
        categorical_columns=[name for name in reference.columns if name not in numbers],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sides = [
            evidently.Dataset.from_pandas(frame.to_pandas(), data_definition=definition)
            for frame in (current, reference)
        ]
        evidently.Report([presets.DataDriftPreset()]).run(*sides).save_html(str(path))


def _used(before: pl.DataFrame, now: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Both with the columns that have a value in each."""
    names = [
        name
        for name in before.columns
        if name not in ("who", "timestamp")
        and before.get_column(name).drop_nulls().len()
        and now.get_column(name).drop_nulls().len()
    ]
    return before.select(names), now.select(names)
