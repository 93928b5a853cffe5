"""Every algorithm on one data set, beside popularity: what `evaluate` prints."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from movie_mlops.data.crawlers import open_crawler
from movie_mlops.data.lake import Lake
from movie_mlops.data.tables import MOVIES, TABLES
from movie_mlops.domain.errors import ConfigurationError, SourceFormatError
from movie_mlops.features.engineering.interaction_features import all_interactions
from movie_mlops.models.algorithms import RECOMMENDERS, REGRESSORS, create, fittable
from movie_mlops.models.algorithms.base import Iterative, Progress, Recommender
from movie_mlops.models.training.evaluation import EvaluationReport, evaluate, newcomer_curve
from movie_mlops.models.training.histories import build_histories, is_ncf_split, read_ncf_split
from movie_mlops.models.training.plots import plot_algorithms, plot_rating
from movie_mlops.models.training.rating import (
    by_segment,
    measure,
    rated_films,
    rating_rows,
    split_rows,
)
from movie_mlops.models.training.selection import Limits, measure_cost, select
from movie_mlops.models.training.splitters import Split, leave_last_out, temporal
from movie_mlops.models.training.trainer import Fitted, fit_measured
from movie_mlops.orchestration.base import Json, Report
from movie_mlops.settings import load_settings

PROTOCOLS = ("leave-last-out", "temporal", "ncf")
BASELINE = "popularity"
GATE_METRIC = "ndcg@10"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What is measured and how; `plots` is a folder for pictures, `algorithms` () means all.

    `limits` are those of the gate; None takes them from the settings.
    """

    data: Path
    protocol: str
    algorithms: tuple[str, ...] = ()
    seed: int = 42
    plots: Path | None = None
    limits: Limits | None = None


def evaluate_recommenders(wanted: Evaluation, progress: Report) -> Json:
    """Fit and measure each algorithm on the same split; popularity is always among them.

    `data` is a folder or zip file of MovieLens, a home or lake with its tables, or (protocol
    ncf) the folder or path prefix of the NCF paper's three files. Every rating is a positive.

    Raises:
        ConfigurationError: no such algorithm or protocol.
        SourceFormatError: the data cannot be read.
        TrainingDataError: too little data for this protocol.
    """
    names = list(dict.fromkeys([BASELINE, *_known(wanted.algorithms or fittable(), RECOMMENDERS)]))
    progress(f"reading {wanted.data}", 0, None)
    split, genres = read_split(wanted, progress)
    models, reports, costs = {}, {}, {}
    figures: Json = {}
    for done, name in enumerate(names):
        progress(f"fitting {name}", done, len(names))
        model: Recommender = create(name)
        if isinstance(model, Iterative):
            model.progress = _within(progress, name, done, len(names))
        fitted = fit_measured(partial(model.fit, split.train, wanted.seed))
        progress(f"ranking with {name}", done, len(names))
        models[name] = fitted.model
        costs[name] = measure_cost(fitted, split)
        reports[name] = evaluate(fitted.model, split, wanted.seed, genres)
        figures[name] = reports[name].to_json() | costs[name].to_json()
    values = {name: found.per_user[GATE_METRIC] for name, found in reports.items()}
    chosen = select(values, costs, wanted.limits or _default_limits(), wanted.seed)
    answer: Json = {
        "protocol": wanted.protocol,
        "users": len(split.users),
        "items": split.train.item_count,
        "training_interactions": len(split.train.items),
        "seed": wanted.seed,
        "algorithms": figures,
        "left_out": {
            name: "PyTorch is not installed (make setup TORCH=1)"
            for name in RECOMMENDERS
            if name not in fittable() and not wanted.algorithms
        },
        "gate": {"champion": chosen.champion, "reasons": dict(chosen.reasons)},
    }
    if wanted.plots is not None:
        answer["plots"] = _plots(wanted.plots, reports, models, split, progress)
    return answer


def evaluate_rating(wanted: Evaluation, progress: Report) -> Json:
    """Fit each rating regressor on 80 % of the films, measure rmse, mae, r2, coverage_90.

    `data` is a folder of IMDb's two files, a home or lake, or a MovieLens release; the films of
    the split depend on the seed only.

    Raises:
        ConfigurationError: no such algorithm.
        SourceFormatError: the data cannot be read.
        TrainingDataError: too few rated films.
    """
    names = _known(wanted.algorithms, REGRESSORS)
    progress(f"reading {wanted.data}", 0, None)
    with TemporaryDirectory(prefix="movie-mlops-evaluate-") as folder:
        films = rated_films(_tables(wanted.data, Path(folder), progress).read(MOVIES.name))
    train, held = split_rows(len(films), wanted.seed)
    rows, ratings = rating_rows(films[train])
    held_rows, held_ratings = rating_rows(films[held])
    figures: Json = {}
    segments: Json = {}
    for done, name in enumerate(names):
        progress(f"fitting {name}", done, len(names))
        fitted = fit_measured(partial(create(name).fit, rows, ratings, wanted.seed))
        found = fitted.model.predict(held_rows)
        measured = measure(found, held_ratings, fitted.model.level, wanted.seed)
        figures[name] = measured.to_json() | _cost(fitted)
        segments[name] = by_segment(found, held_ratings, held_rows)
        if wanted.plots is not None:
            plot_rating(found, held_ratings, segments[name], wanted.plots / name)
    return {
        "protocol": "80/20",
        "films": len(films),
        "held_out": len(held),
        "seed": wanted.seed,
        "algorithms": figures,
        "segments": segments,
    }


def _within(progress: Report, name: str, done: int, total: int) -> Progress:
    """What one algorithm tells of its epochs, as part of the whole."""
    return lambda text, _, __: progress(f"fitting {name}: {text}", done, total)


def _default_limits() -> Limits:
    settings = load_settings()
    return Limits(settings.gate_latency_ms, settings.gate_memory_mb, settings.gate_bundle_mb)


def _cost(fitted: Fitted[Any]) -> Json:
    return {
        "train_cpu_seconds": round(fitted.cpu_seconds, 3),
        "peak_memory_mb": round(fitted.peak_memory_mb, 1),
    }


def _known(algorithms: Sequence[str], there: Sequence[str]) -> list[str]:
    """The algorithms asked for, once each; all when none is."""
    unknown = [name for name in algorithms if name not in there]
    if unknown:
        message = f"there is no algorithm {unknown[0]!r} here; there are: {', '.join(there)}"
        raise ConfigurationError(message)
    return list(dict.fromkeys(algorithms or there))


def read_split(wanted: Evaluation, progress: Report) -> tuple[Split, list[list[str]] | None]:
    """The split, and the genres of each film of its catalogue where the data has any."""
    if wanted.protocol == "ncf":
        given = read_ncf_split(wanted.data)
        ends = np.arange(len(given.users) + 1, dtype=np.int64)
        return Split("ncf", given.train, given.users, ends, given.held_out, given.negatives), None
    if wanted.protocol not in PROTOCOLS:
        message = f"there is no protocol {wanted.protocol!r}; there are: {', '.join(PROTOCOLS)}"
        raise ConfigurationError(message)
    if is_ncf_split(wanted.data):
        message = f"{wanted.data} is split already: --protocol ncf"
        raise ConfigurationError(message)
    with TemporaryDirectory(prefix="movie-mlops-evaluate-") as folder:
        lake = _tables(wanted.data, Path(folder), progress)
        movies = lake.read(MOVIES.name).select("movie_id", "genres").sort("movie_id")
        histories = build_histories(
            all_interactions(lake), movies["movie_id"].to_numpy(), every_rating=True
        )
    split = temporal(histories) if wanted.protocol == "temporal" else leave_last_out(histories)
    return split, movies["genres"].to_list()


def _tables(data: Path, folder: Path, progress: Report) -> Lake:
    """The lake that `data` names, or one in `folder` with what the source's files give."""
    for root in (data / "data", data, data.parent):
        if Lake(root).exists(MOVIES.name) and data in (root.parent, root, root / "processed"):
            return Lake(root)
    if not data.exists():
        message = f"{data} does not exist: name a folder or zip of a source, a home, or NCF files"
        raise SourceFormatError(message)
    scheme = "imdb" if any(data.glob("title.basics.tsv*")) else "movielens"
    crawler = open_crawler(load_settings(folder, source_url=f"{scheme}:{data}"))
    lake = Lake(folder)
    crawler.fetch(lake.raw(crawler.source), progress)
    with lake.connect() as connection:
        for name in crawler.stage(lake.raw(crawler.source), connection):
            progress(f"checking {name}", 0, None)
            lake.replace(TABLES[name], connection, f"raw_{name}")
    return lake


def _plots(
    folder: Path,
    reports: dict[str, EvaluationReport],
    models: dict[str, Recommender],
    split: Split,
    progress: Report,
) -> list[str]:
    """The figures as pictures, with the newcomers' curve of the best algorithm."""
    best = max(reports, key=lambda name: reports[name].metrics[GATE_METRIC].value)
    progress(f"newcomers with 1 to 20 films, {best}", 0, None)
    curve = newcomer_curve(models[best], models[BASELINE], split)
    return [str(path) for path in plot_algorithms(reports, folder, curve)]
