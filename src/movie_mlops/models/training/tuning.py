"""Hyperparameter search: what may vary, how a study runs, where its best setting is kept."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from movie_mlops.domain.errors import ConfigurationError

if TYPE_CHECKING:
    from optuna import Study, Trial

Parameters = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Number:
    """A number to choose between two bounds; `log` when its magnitude is what matters."""

    low: float
    high: float
    log: bool = True


Space = Mapping[str, Number | tuple[Number, ...]]
SPACES: Mapping[str, Space] = {
    "sequence_linear": {
        "time_scales": (Number(1.5, 8), Number(10, 80)),
        "ridge": (Number(50, 5_000), Number(200, 20_000)),
        "reversed_weight": Number(0.05, 1),
        "target_power": Number(-0.4, 0.2, log=False),
    },
    "item_neighbours": {"shrink": Number(1, 1_000)},
    "ease": {"ridge": Number(10, 5_000), "recency": Number(3, 200)},
    "implicit_als": {
        "unobserved_weight": Number(0.01, 1),
        "ridge": Number(0.001, 0.1),
        "ridge_power": Number(0, 1, log=False),
    },
    "boosted": {"learning_rate": Number(0.01, 0.2)},
}
"""Algorithm to the constructor's arguments that a search varies."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One tried setting; `value` is None when it broke a limit or failed, and `note` says how."""

    number: int
    parameters: Parameters
    value: float | None
    note: str


Objective = Callable[[Parameters], tuple[float, str | None]]
"""Setting to (figure, higher is better; the limit that it breaks or None)."""


@dataclass(frozen=True, slots=True)
class Search:
    """A study in a database, so that an interrupted search goes on where it stopped."""

    algorithm: str
    study_url: str
    study_name: str
    seed: int

    def run(
        self,
        objective: Objective,
        trials: int,
        seconds: float | None,
        tell: Callable[[Attempt], None],
    ) -> Attempt:
        """Try settings until `trials` stand in the study, or the seconds are over; the best one.

        The first setting tried is the algorithm's default: the search can only improve on it.

        Raises:
            ConfigurationError: nothing of this algorithm can be varied, or no setting is allowed.
        """
        if self.algorithm not in SPACES:
            message = f"{self.algorithm} has nothing to search; there are: {', '.join(SPACES)}"
            raise ConfigurationError(message)
        study = self._study()
        done = sum(trial.state.is_finished() for trial in study.trials)
        # an interrupted search must not draw its first settings again
        study.sampler = _sampler(self.seed + done)

        def attempt(trial: "Trial") -> float:
            from optuna import TrialPruned  # noqa: PLC0415 (seconds to import)

            parameters = suggest(trial, SPACES[self.algorithm]) if trial.number else {}
            trial.set_user_attr("parameters", parameters)
            value, broken = objective(parameters)
            tell(Attempt(trial.number, parameters, None if broken else value, broken or ""))
            if broken:
                raise TrialPruned(broken)
            return value

        study.optimize(attempt, n_trials=max(trials - done, 0), timeout=seconds)
        try:
            best = study.best_trial
        except ValueError as error:
            message = f"no setting of {self.algorithm} keeps the limits of the gate"
            raise ConfigurationError(message) from error
        return Attempt(best.number, best.user_attrs["parameters"], best.value, "")

    def _study(self) -> "Study":
        import optuna  # noqa: PLC0415 (seconds to import)

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return optuna.create_study(
            storage=self.study_url,
            study_name=self.study_name,
            direction="maximize",
            load_if_exists=True,
        )


def _sampler(seed: int) -> Any:
    from optuna.samplers import TPESampler  # noqa: PLC0415 (seconds to import)

    return TPESampler(seed=seed)


def suggest(trial: "Trial", space: Space) -> Parameters:
    """One setting out of the space, as the constructor's arguments."""
    found: Parameters = {}
    for name, what in space.items():
        if isinstance(what, Number):
            found[name] = trial.suggest_float(name, what.low, what.high, log=what.log)
        else:
            found[name] = [
                trial.suggest_float(f"{name}_{place}", one.low, one.high, log=one.log)
                for place, one in enumerate(what)
            ]
    return found


def write_tuned(folder: Path, algorithm: str, best: Attempt, study: str) -> Path:
    """Keep the best setting where the next training finds it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{algorithm}.json"
    kept = {"parameters": best.parameters, "value": best.value, "study": study}
    path.write_text(json.dumps(kept, indent=1, sort_keys=True))
    return path


def read_tuned(folder: Path, algorithm: str) -> Parameters:
    """The setting that a search found; empty when there was none.

    Raises:
        ConfigurationError: the file cannot be read.
    """
    path = folder / f"{algorithm}.json"
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text())["parameters"])
    except (ValueError, KeyError, TypeError) as error:
        message = f"{path} is no result of `movie-mlops tune`: {error!r}; remove it"
        raise ConfigurationError(message) from error
