"""Training of the rating predictor: prepare, train, evaluate, register as challenger."""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl

from movie_mlops.data.lake import Lake
from movie_mlops.data.versions import DataVersionManager
from movie_mlops.domain.versions import MOVIE_PREDICTOR
from movie_mlops.models.algorithms import create, load
from movie_mlops.models.algorithms.base import Arrays, Card, RatingRegressor
from movie_mlops.models.bundle import load_bundle, save_bundle
from movie_mlops.models.registry import ModelRegistry, RunRecord
from movie_mlops.models.training.challenger import load_rival, register_challenger
from movie_mlops.models.training.plots import plot_rating
from movie_mlops.models.training.promotion import gate
from movie_mlops.models.training.rating import (
    RatingReport,
    by_segment,
    hold_out,
    measure,
    rated_films,
    rating_rows,
    vote_quartiles,
)
from movie_mlops.models.training.trainer import fit_measured
from movie_mlops.orchestration.base import Json, Pipeline, Report

BASELINE = "random_forest"
_METRICS = ("rmse", "mae", "r2")


@dataclass(frozen=True, slots=True)
class RatingTraining:
    """The steps and what they need; `work` holds what one step leaves for the next."""

    lake: Lake
    snapshots: DataVersionManager
    registry: ModelRegistry
    serving: Path
    work: Path
    algorithm: str
    level: float
    seed: int
    bootstrap_samples: int

    def pipeline(self) -> Pipeline:
        """The steps in order."""
        steps = (
            self.prepare_rating_data,
            self.train_rating_model,
            self.evaluate_rating_model,
            self.register_rating_model,
        )
        return Pipeline("rating_training", {step.__name__: step for step in steps})

    def prepare_rating_data(self, inputs: Json, report: Report) -> Json:
        """Freeze the rated films of the present snapshot."""
        del inputs
        report("snapshot of the tables", 0, None)
        snapshot = self.snapshots.current_or_new()
        with self.snapshots.opened(snapshot) as lake:
            films = rated_films(lake.read("movies"))
        folder = self._folder(snapshot)
        folder.mkdir(parents=True, exist_ok=True)
        films.write_parquet(folder / "films.parquet")
        note = f"{len(films):,} rated films, snapshot {snapshot}"
        return {"rating_snapshot": snapshot, "note": note}

    def train_rating_model(self, inputs: Json, report: Report) -> Json:
        """Fit champion and baseline on 80 % of the films."""
        folder = self._folder(inputs["rating_snapshot"])
        films = pl.read_parquet(folder / "films.parquet")
        train, _ = hold_out(films, self.seed)
        rows, ratings = rating_rows(films[train])
        seconds = {}
        for name in (self.algorithm, BASELINE):
            report(f"fitting {name}", 0, None)
            model = self._create(name)
            fitted = fit_measured(partial(model.fit, rows, ratings, self.seed))
            save_bundle(folder / name, *fitted.model.artifact())
            seconds[name] = round(fitted.cpu_seconds, 2)
        note = ", ".join(f"{name} {spent:.1f} CPU s" for name, spent in seconds.items())
        return {"rating_cpu_seconds": seconds, "note": note}

    def evaluate_rating_model(self, inputs: Json, report: Report) -> Json:
        """Errors on the held-out 20 %, the gate's verdict, plots."""
        folder = self._folder(inputs["rating_snapshot"])
        films = pl.read_parquet(folder / "films.parquet")
        _, held = hold_out(films, self.seed)
        rows, ratings = rating_rows(films[held])
        models = {
            name: _regressor(*load_bundle(folder / name)) for name in (self.algorithm, BASELINE)
        }
        models |= self._champion()
        reports: dict[str, RatingReport] = {}
        for done, (name, model) in enumerate(models.items()):
            report(f"evaluating {name}", done, len(models))
            found = model.predict(rows)
            reports[name] = measure(found, ratings, model.level, self.seed, self.bootstrap_samples)
        rival = list(reports)[-1]
        verdict = gate(
            -reports[self.algorithm].squared_errors,
            -reports[rival].squared_errors,
            rival,
            vote_quartiles(rows),
            is_first=rival == BASELINE,
            seed=self.seed,
        )
        own = models[self.algorithm].predict(rows)
        segments = by_segment(own, ratings, rows)
        plot_rating(own, ratings, segments, folder / "plots")
        figures = {name: found.to_json() for name, found in reports.items()}
        evaluation = {"figures": figures, "segments": segments}
        (folder / "evaluation.json").write_text(json.dumps(evaluation, indent=1))
        metrics = {key: found.value for key, found in reports[self.algorithm].metrics.items()}
        baseline = {f"baseline_{k}": found.value for k, found in reports[BASELINE].metrics.items()}
        return {
            "rating_metrics": metrics | baseline,
            "rating_gate": verdict.to_json(),
            "note": verdict.reason,
            "board": _board(reports, len(held)),
        }

    def register_rating_model(self, inputs: Json, report: Report) -> Json:
        """Refit on all rated films, write the bundle, register, point challenger at it."""
        report("refitting on all films", 0, None)
        snapshot = inputs["rating_snapshot"]
        folder = self._folder(snapshot)
        rows, ratings = rating_rows(pl.read_parquet(folder / "films.parquet"))
        arrays, card = self._create(self.algorithm).fit(rows, ratings, self.seed).artifact()
        card |= {
            "snapshot": snapshot,
            "snapshot_tree": self.snapshots.get(snapshot).tree,
            "seed": self.seed,
            "gate": inputs["rating_gate"],
            "metrics": inputs["rating_metrics"],
        }
        report("registering", 0, None)
        record = RunRecord(
            name=f"{self.algorithm} on {snapshot}",
            parameters={"algorithm": self.algorithm, "seed": self.seed, **card["parameters"]},
            metrics=inputs["rating_metrics"],
            bundle=folder / "bundle",
            plots=folder / "plots",
            tags={"cause": inputs.get("cause", "")},
            texts={"evaluation.json": (folder / "evaluation.json").read_text()},
        )
        run_id, version = register_challenger(
            MOVIE_PREDICTOR,
            (arrays, card),
            folder / self.algorithm,
            record,
            self.registry,
            self.serving,
        )
        return {
            "rating_run_id": run_id,
            "rating_version": version,
            "note": f"{MOVIE_PREDICTOR} v{version}; files in {self.serving}",
        }

    def _create(self, name: str) -> RatingRegressor:
        model: RatingRegressor = create(name, level=self.level)
        return model

    def _folder(self, snapshot: str) -> Path:
        return self.work / snapshot / "rating"

    def _champion(self) -> dict[str, RatingRegressor]:
        champion = load_rival(MOVIE_PREDICTOR, self.serving)
        if champion is None:
            return {}
        version, arrays, card = champion
        return {f"champion v{version}": _regressor(arrays, card)}


def _regressor(arrays: Arrays, card: Card) -> RatingRegressor:
    model = load(arrays, card)
    assert isinstance(model, RatingRegressor)  # noqa: S101 (these bundles are ours)
    return model


def _board(reports: dict[str, RatingReport], films: int) -> Json:
    """Figures beside the guide's forest, ready to print."""
    metrics = list(next(iter(reports.values())).metrics)
    models = {
        name: {
            metric: f"{value.value:.3f} ({value.low:.3f}–{value.high:.3f})"
            for metric, value in found.metrics.items()
        }
        for name, found in reports.items()
    }
    return {
        "title": f"Ratings: {films:,} held-out films (95 %)",
        "metrics": metrics,
        "models": models,
    }
