"""Training of a recommender: prepare, choose and train, evaluate, register as challenger."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from movie_mlops.data.lake import Lake
from movie_mlops.data.versions import DataVersionManager
from movie_mlops.domain.errors import TrainingDataError
from movie_mlops.domain.versions import MOVIE_RECOMMENDER
from movie_mlops.events.base import Position
from movie_mlops.features.engineering.interaction_features import EVENT_TOPIC, all_interactions
from movie_mlops.models.algorithms import create, load
from movie_mlops.models.algorithms.base import (
    Arrays,
    Card,
    IntArray,
    Iterative,
    Recommender,
    Scorer,
)
from movie_mlops.models.bundle import load_bundle, save_bundle
from movie_mlops.models.manifest import remove_oldest
from movie_mlops.models.registry import ModelRegistry, RunRecord
from movie_mlops.models.serving.follower import write_histories
from movie_mlops.models.serving.histories import Histories
from movie_mlops.models.training.challenger import load_rival, register_challenger
from movie_mlops.models.training.evaluation import EvaluationReport, evaluate
from movie_mlops.models.training.histories import build_histories
from movie_mlops.models.training.plots import plot_algorithms
from movie_mlops.models.training.promotion import Verdict, activity_terciles, gate
from movie_mlops.models.training.selection import (
    Limits,
    Selection,
    measure_cost,
    over_limits,
    select,
)
from movie_mlops.models.training.splitters import Split, leave_last_out, leave_near_last_out
from movie_mlops.models.training.trainer import Fitted, fit_measured
from movie_mlops.models.training.vocabulary import on_vocabulary
from movie_mlops.orchestration.base import Json, Pipeline, Report

BASELINE = "popularity"
METRIC = "ndcg@10"
FEWEST_USERS = 5
KEPT_WORK = 2
_BOARD = ("ndcg@10", "hit_rate@10", "recall@20", "coverage@10")


@dataclass(frozen=True, slots=True)
class Training:
    """The steps and what they need; `work` holds what one step leaves for the next.

    `candidates` are algorithm names to parameters; of several the one that earns its place on
    validation films is trained. `model` is the registered model that gets the new version.
    `create` makes an unfitted algorithm of a name and its parameters.
    """

    lake: Lake
    snapshots: DataVersionManager
    registry: ModelRegistry
    serving: Path
    work: Path
    model: str
    candidates: Mapping[str, Mapping[str, Any]]
    limits: Limits
    history_length: int
    seed: int
    bootstrap_samples: int
    create: Callable[..., Any] = create

    def pipeline(self) -> Pipeline:
        """The steps in order."""
        steps = (
            self.prepare_training_data,
            self.train_movie_model,
            self.evaluate_trained_model,
            self.register_model_to_mlflow,
        )
        name = "training" if self.model == MOVIE_RECOMMENDER else "neural_training"
        return Pipeline(name, {step.__name__: step for step in steps})

    def prepare_training_data(self, inputs: Json, report: Report) -> Json:
        """Take (or find) the snapshot of the tables and freeze the interactions of this run."""
        del inputs
        report("snapshot of the tables", 0, None)
        snapshot = self.snapshots.current_or_new()
        folder = self.work / snapshot
        folder.mkdir(parents=True, exist_ok=True)
        remove_oldest([path for path in self.work.iterdir() if path != folder], KEPT_WORK)
        # of the snapshot, not of the tables, which go on: so the version can be built again
        with self.snapshots.opened(snapshot) as lake:
            positions = lake.event_positions(EVENT_TOPIC)
            interactions = all_interactions(lake)
            films = lake.read("movies").select("movie_id", "genres").sort("movie_id")
        interactions.write_parquet(folder / "interactions.parquet")
        films.write_parquet(folder / "movies.parquet")
        users = interactions.get_column("user_id").n_unique()
        note = f"{len(interactions):,} interactions of {users:,} people, snapshot {snapshot}"
        return {"snapshot": snapshot, "log_positions": positions, "note": note}

    def train_movie_model(self, inputs: Json, report: Report) -> Json:
        """Choose among the candidates, fit on everything but each user's last film, measure.

        The input `candidates` leaves only these in the choice: a first model shall be quick.
        """
        folder, split = self._split(inputs)
        names = [name for name in self.candidates if name in inputs.get("candidates", [name])]
        chosen = self._choose(names or list(self.candidates), split, report)
        fitted = self._fit(chosen.champion, split, report)
        cost = measure_cost(fitted, split)
        arrays, card = fitted.model.artifact()
        save_bundle(folder / "candidate", arrays, card)
        why = "; ".join(f"{name}: {reason}" for name, reason in chosen.reasons.items())
        return {
            "algorithm": chosen.champion,
            "selection": dict(chosen.reasons),
            "cost": cost.to_json(),
            "over_limits": over_limits(cost, self.limits),
            "note": f"{chosen.champion}: {fitted.cpu_seconds:.1f} CPU s{why and f' ({why})'}",
        }

    def evaluate_trained_model(self, inputs: Json, report: Report) -> Json:
        """Full ranking beside popularity and the champion; the gate's verdict; plots."""
        folder, split = self._split(inputs)
        genres = pl.read_parquet(folder / "movies.parquet").get_column("genres").to_list()
        models = self._models(inputs["algorithm"], folder, split)
        reports: dict[str, EvaluationReport] = {}
        for done, (name, model) in enumerate(models.items()):
            report(f"evaluating {name}", done, len(models))
            reports[name] = evaluate(model, split, self.seed, genres, self.bootstrap_samples)
        verdict = self._verdict(inputs["algorithm"], reports, split, genres)
        if inputs["over_limits"] and list(reports)[-1] != BASELINE:
            verdict = replace(verdict, passed=False, reason=inputs["over_limits"])
        plot_algorithms(reports, folder / "plots")
        own = reports[inputs["algorithm"]].to_json()
        figures = {key: _value(value) for key, value in own.items()}
        baseline = {
            f"popularity_{key}": _value(v) for key, v in reports[BASELINE].to_json().items()
        }
        (folder / "evaluation.json").write_text(
            json.dumps({name: found.to_json() for name, found in reports.items()}, indent=1)
        )
        return {
            "metrics": figures | baseline,
            "gate": verdict.to_json(),
            "note": verdict.reason,
            "board": _board(reports, len(split.users)),
        }

    def register_model_to_mlflow(self, inputs: Json, report: Report) -> Json:
        """Refit on all rows, write bundle and histories, register, point challenger at it."""
        folder, algorithm = self.work / inputs["snapshot"], inputs["algorithm"]
        interactions, histories = self._histories(folder)
        model = self._create(algorithm, report, "refitting on all rows").fit(histories, self.seed)
        arrays, card = model.artifact()
        people = Histories.from_frame(interactions, self.history_length)
        for partition, offset in inputs["log_positions"].items():
            people.advance(Position(EVENT_TOPIC, int(partition), offset - 1))
        card |= {
            "snapshot": inputs["snapshot"],
            "snapshot_tree": self.snapshots.get(inputs["snapshot"]).tree,
            "seed": self.seed,
            "log_positions": inputs["log_positions"],
            "gate": inputs["gate"],
            "metrics": inputs["metrics"],
        }
        report("registering", 0, None)
        record = RunRecord(
            name=f"{algorithm} on {inputs['snapshot']}",
            parameters={"algorithm": algorithm, "seed": self.seed, **card["parameters"]},
            metrics={**inputs["metrics"], **inputs["cost"]},
            bundle=folder / "bundle",
            plots=folder / "plots",
            tags={"cause": inputs.get("cause", "")},
            texts={"evaluation.json": (folder / "evaluation.json").read_text()},
        )
        run_id, version = register_challenger(
            self.model,
            (arrays, card),
            folder / "candidate",
            record,
            self.registry,
            self.serving,
        )
        if self.model == MOVIE_RECOMMENDER:
            write_histories(self.serving, people, version)
        return {
            "run_id": run_id,
            "version": version,
            "note": f"{self.model} v{version}; files in {self.serving}",
        }

    def _choose(self, names: Sequence[str], split: Split, report: Report) -> Selection:
        """Fit each candidate without near-last films and compare them there, never on the test."""
        if len(names) == 1:
            return Selection(names[0], {})
        validation = leave_near_last_out(split.train, self.seed)
        values, costs = {}, {}
        for name in names:
            fitted = self._fit(name, validation, report)
            costs[name] = measure_cost(fitted, validation)
            report(f"validating {name}", 0, None)
            found = evaluate(fitted.model, validation, self.seed, samples=self.bootstrap_samples)
            values[name] = found.per_user[METRIC]
        return select(values, costs, self.limits, self.seed)

    def _fit(self, algorithm: str, split: Split, report: Report) -> Fitted[Recommender]:
        model = self._create(algorithm, report, f"fitting {algorithm}")
        return fit_measured(partial(model.fit, split.train, self.seed))

    def _create(self, algorithm: str, report: Report, what: str) -> Recommender:
        """A new model that tells of its epochs through `report`."""
        report(what, 0, None)
        model: Recommender = self.create(algorithm, **self.candidates[algorithm])
        if isinstance(model, Iterative):
            model.progress = lambda text, done, total: report(f"{what}: {text}", done, total)
        return model

    def _histories(self, folder: Path) -> tuple[pl.DataFrame, Any]:
        interactions = pl.read_parquet(folder / "interactions.parquet")
        movie_ids: IntArray = pl.read_parquet(folder / "movies.parquet")["movie_id"].to_numpy()
        return interactions, build_histories(interactions, movie_ids)

    def _split(self, inputs: Json) -> tuple[Path, Split]:
        folder = self.work / inputs["snapshot"]
        split = leave_last_out(self._histories(folder)[1])
        if len(split.users) < FEWEST_USERS:
            message = (
                f"only {len(split.users)} people have two or more positive films; "
                f"at least {FEWEST_USERS} are needed to train and evaluate"
            )
            raise TrainingDataError(message)
        return folder, split

    def _models(self, algorithm: str, folder: Path, split: Split) -> dict[str, Scorer]:
        arrays, card = load_bundle(folder / "candidate")
        models: dict[str, Scorer] = {
            algorithm: _recommender(arrays, card),
            BASELINE: create(BASELINE).fit(split.train, self.seed),
        }
        champion = load_rival(self.model, self.serving)
        if champion is not None:
            version, arrays, card = champion
            model = on_vocabulary(_recommender(arrays, card), split.train.movie_ids)
            models[f"champion v{version}"] = model
        return models

    def _verdict(
        self,
        algorithm: str,
        reports: dict[str, EvaluationReport],
        split: Split,
        genres: Sequence[Sequence[str]],
    ) -> Verdict:
        """Against the champion when there is one, else against popularity."""
        rival = list(reports)[-1]
        counts = np.diff(split.train.indptr)[split.users]
        segments = activity_terciles(counts)
        first = np.array([genres[item][0] if genres[item] else "" for item in split.targets])
        if len(first) == len(split.users):
            segments |= {genre: first == genre for genre in np.unique(first) if genre}
        return gate(
            reports[algorithm].per_user[METRIC],
            reports[rival].per_user[METRIC],
            rival,
            segments,
            is_first=rival == BASELINE,
            seed=self.seed,
        )


def _recommender(arrays: Arrays, card: Card) -> Recommender:
    model = load(arrays, card)
    assert isinstance(model, Recommender)  # noqa: S101 (these bundles are ours)
    return model


def _value(figure: Any) -> float:
    return float(figure["value"] if isinstance(figure, dict) else figure)


def _board(reports: dict[str, EvaluationReport], users: int) -> Json:
    """Figures beside popularity's, ready to print."""
    models = {}
    for name, found in reports.items():
        figures = found.to_json()
        models[name] = {
            metric: (
                f"{figures[metric]['value']:.4f} ({figures[metric]['low']:.4f}–"
                f"{figures[metric]['high']:.4f})"
                if isinstance(figures[metric], dict)
                else f"{figures[metric]:.3f}"
            )
            for metric in _BOARD
            if metric in figures
        }
    title = f"Recommendations: full ranking, each of {users:,} people's last film hidden (95 %)"
    return {"title": title, "metrics": list(_BOARD), "models": models}
