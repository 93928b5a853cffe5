"""The guide's A/B manager: route a user to a model, log what it answered, hear the verdict."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from movie_mlops.domain.experiments import Arm, Experiment
from movie_mlops.domain.interactions import UserId, parse_user_id
from movie_mlops.domain.requests import new_request_id
from movie_mlops.models.serving.ab_report import (
    ExperimentReport,
    encode_definition,
    report_on,
    window_ms,
)
from movie_mlops.models.serving.experiment_store import ExperimentStore
from movie_mlops.models.serving.exposure_store import ExposureStore
from movie_mlops.models.serving.exposures import ExposureLog, Shown


class ABTestManager:
    """One test over any models, kept beside the exposures; `close` closes their store.

    The test `name` begins with the first `route_request`; the first model is the control.
    """

    def __init__(
        self,
        store: ExposureStore,
        name: str = "ab-test",
        *,
        attribution_minutes: float = 60.0,
        alpha: float = 0.05,
    ) -> None:
        self._name, self._minutes, self._alpha = name, attribution_minutes, alpha
        self._store = store
        self._tests = ExperimentStore(self._store)
        self._experiment: Experiment | None = None
        self._log = ExposureLog(self._store)
        self._log.start()

    def route_request(self, user_id: int | str, models: Sequence[str] | Mapping[str, float]) -> str:
        """The model for this user: for one user always the same of the same models.

        `models` are names, or names with weights; a single one is no test.

        Raises:
            InvalidIdError: `user_id` can be none.
            ValueError: no model, two of one name, or a weight that is not above 0.
        """
        user = parse_user_id(user_id)
        weights = models if isinstance(models, Mapping) else dict.fromkeys(models, 1.0)
        if len(weights) == 1:
            return next(iter(weights))
        arms = tuple(Arm(name, weight=weight) for name, weight in weights.items())
        experiment = Experiment(self._name, arms, self._minutes, self._alpha)
        if experiment != self._experiment:
            self._tests.register(self._name, encode_definition(experiment))
            self._experiment = experiment
            self._log.close()
            self._log = ExposureLog(self._store, experiment)
            self._log.start()
        return experiment.arm_of(user).name

    def log_prediction(
        self, model_version: str, request: Mapping[str, Any], response: Mapping[str, Any]
    ) -> str:
        """Note what a model answered to whom; the request id under which it is found.

        `request` holds `user_id`, and `request_id` when it has one already; of `response` the
        films under `items` or `recommended_content_id` are kept.

        Raises:
            InvalidIdError: the request's `user_id` can be none.
        """
        request_id = str(request.get("request_id") or new_request_id())
        user = parse_user_id(request.get("user_id", ""))
        arms = {arm.name for arm in self._experiment.arms} if self._experiment else set()
        shown = Shown(
            kind="list",
            user_id=user,
            path=str(response.get("path", "")),
            model=str(response.get("model", "")),
            version=model_version,
            snapshot=str(response.get("snapshot", "")),
            items=_films(response),
            experiment=self._name if model_version in arms else "",
            arm=model_version if model_version in arms else "",
        )
        self._log.note(request_id, shown)
        return request_id

    def log_outcome(self, user_id: int | str, request_id: str) -> bool:
        """Note that the user did what was hoped for after this request; whether it counts now.

        Raises:
            InvalidIdError: `user_id` can be none.
        """
        user: UserId = parse_user_id(user_id)
        self._log.flush()
        experiment, now = self._experiment, round(1000 * time.time())
        found = self._log.recall(request_id, user)
        if experiment is None or found is None or found.shown.experiment != self._name:
            return False
        subject = experiment.subject(user)
        if not self._tests.open_subjects(self._name, [(subject, now)], window_ms(experiment)):
            return False
        self._tests.convert(self._name, [subject], now)
        return True

    def verdict(self) -> ExperimentReport | None:
        """How the test stands; may be asked at any time. None before it began."""
        self._log.flush()
        self._tests.convert(self._name, (), round(1000 * time.time()))
        return report_on(self._tests, self._name, active=self._experiment is not None)

    def close(self) -> None:
        """Write what is noted and close the store."""
        self._log.close()
        self._store.close()


def _films(response: Mapping[str, Any]) -> tuple[int, ...]:
    items = response.get("items", response.get("recommended_content_id", ()))
    return tuple(int(item["movie_id"] if isinstance(item, Mapping) else item) for item in items)
