"""Search for better hyperparameters on validation films, under the gate's limits."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from movie_mlops.data.lake import Lake
from movie_mlops.data.versions import DataVersionManager
from movie_mlops.domain.errors import ConfigurationError
from movie_mlops.features.engineering.interaction_features import all_interactions
from movie_mlops.models.algorithms import REGRESSORS, create
from movie_mlops.models.algorithms.base import Recommender
from movie_mlops.models.registry import ModelRegistry, RunRecord
from movie_mlops.models.training.evaluation import evaluate
from movie_mlops.models.training.histories import build_histories
from movie_mlops.models.training.rating import hold_out, rated_films, rating_rows, split_rows
from movie_mlops.models.training.selection import Limits, measure_cost, over_limits
from movie_mlops.models.training.splitters import leave_last_out, leave_near_last_out
from movie_mlops.models.training.trainer import fit_measured
from movie_mlops.models.training.tuning import Attempt, Objective, Parameters, Search, write_tuned
from movie_mlops.orchestration.base import Json, Report


@dataclass(frozen=True, slots=True)
class Tuning:
    """What a search needs; `folder` keeps the studies and the best settings."""

    lake: Lake
    snapshots: DataVersionManager
    registry: ModelRegistry
    folder: Path
    limits: Limits
    fixed: Callable[[str], Mapping[str, Any]]
    seed: int

    def run(self, algorithm: str, trials: int, seconds: float | None, report: Report) -> Json:
        """Search; every trial is a run of the experiment `tuning_<algorithm>`.

        The study belongs to the present snapshot: the same call goes on with it. Test films, which
        training and `evaluate` hide, are left out before the validation films are drawn.
        """
        snapshot = self.snapshots.current_or_new()
        name = f"{algorithm} on {snapshot}"
        self.folder.mkdir(parents=True, exist_ok=True)
        objective, figure = self._objective(algorithm, report)
        tried: list[Json] = []

        def tell(attempt: Attempt) -> None:
            tried.append(
                {"number": attempt.number, figure: attempt.value, "note": attempt.note}
                | attempt.parameters
            )
            metrics = {} if attempt.value is None else {figure: attempt.value}
            self.registry.log_run(
                f"tuning_{algorithm}",
                RunRecord(
                    name=f"trial {attempt.number} on {snapshot}",
                    parameters=attempt.parameters or {"setting": "default"},
                    metrics=metrics,
                    tags={"snapshot": snapshot, "algorithm": algorithm, "note": attempt.note},
                ),
            )
            report(f"trial {attempt.number + 1} of {trials}", attempt.number + 1, trials)

        url = f"sqlite:///{(self.folder / 'studies.db').absolute()}"
        best = Search(algorithm, url, name, self.seed).run(objective, trials, seconds, tell)
        path = write_tuned(self.folder, algorithm, best, name)
        return {
            "algorithm": algorithm,
            "study": name,
            "metric": figure,
            "tried_now": tried,
            "best": {"number": best.number, figure: best.value, **best.parameters},
            "file": str(path),
        }

    def _objective(self, algorithm: str, report: Report) -> tuple[Objective, str]:
        if algorithm in REGRESSORS:
            return self._of_regressor(algorithm, report), "negative_rmse"
        return self._of_recommender(algorithm, report), "ndcg@10"

    def _of_recommender(self, algorithm: str, report: Report) -> Objective:
        ids = self.lake.read("movies")["movie_id"].to_numpy()
        train = leave_last_out(build_histories(all_interactions(self.lake), ids)).train
        split = leave_near_last_out(train, self.seed)
        if not len(split.users):
            message = "there are no validation films: nobody has three positive films"
            raise ConfigurationError(message)

        def objective(parameters: Parameters) -> tuple[float, str | None]:
            report(f"fitting {algorithm}", 0, None)
            model: Recommender = create(algorithm, **(parameters | dict(self.fixed(algorithm))))
            fitted = fit_measured(partial(model.fit, split.train, self.seed))
            broken = over_limits(measure_cost(fitted, split), self.limits)
            found = evaluate(fitted.model, split, self.seed, samples=1)
            return found.metrics["ndcg@10"].value, broken

        return objective

    def _of_regressor(self, algorithm: str, report: Report) -> Objective:
        films = rated_films(self.lake.read("movies"))
        films = films[hold_out(films, self.seed)[0]]
        fit, validation = split_rows(len(films), self.seed + 1)
        rows, ratings = rating_rows(films[fit])
        held, held_ratings = rating_rows(films[validation])

        def objective(parameters: Parameters) -> tuple[float, str | None]:
            report(f"fitting {algorithm}", 0, None)
            model = create(algorithm, **parameters).fit(rows, ratings, self.seed)
            errors = model.predict(held).rating - held_ratings
            return -float(np.sqrt(np.mean(errors**2))), None

        return objective
