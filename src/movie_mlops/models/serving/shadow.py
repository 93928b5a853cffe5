"""The challenger in the shadow: it makes the list too, nobody sees it, and nobody waits for it."""

import logging
import random
import threading
import time
from queue import SimpleQueue
from typing import NamedTuple

import msgspec

from movie_mlops.domain.interactions import UserId
from movie_mlops.models.serving.experiment_store import SHADOW
from movie_mlops.models.serving.exposures import ExposureLog, Shown
from movie_mlops.models.serving.recommender import RecommendationService
from movie_mlops.models.serving.trial import Trial
from movie_mlops.monitoring import metrics

_MOST_WAITING = 64
_LOG = logging.getLogger(__name__)
_OUTCOMES = {
    outcome: metrics.SHADOW_LISTS.labels(outcome) for outcome in ("made", "failed", "dropped")
}


class _Job(NamedTuple):
    request_id: str
    shown: Shown
    k: int


class Shadow:
    """For a `share` of the lists, chosen by chance, the challenger makes one beside."""

    def __init__(
        self, recommender: RecommendationService, trial: Trial, exposures: ExposureLog
    ) -> None:
        self.share = 0.0
        self._recommender, self._trial, self._exposures = recommender, trial, exposures
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def consider(self, request_id: str, shown: Shown, k: int) -> None:
        """Perhaps let the challenger answer this too, later; when it is behind, it does not."""
        if random.random() >= self.share:  # noqa: S311 (a sample)
            return
        if self._jobs.qsize() >= _MOST_WAITING:
            metrics.TALLY.count((_OUTCOMES["dropped"], 1.0))
            return
        self._jobs.put(_Job(request_id, shown, k))

    def start(self) -> None:
        """Work from now on; while `share` is 0 there is nothing to do."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the list that is being made; those that wait are left."""
        self.share = 0.0
        if self._thread.is_alive():
            self._jobs.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                if self.share > 0:
                    self._make(job)
            except Exception as error:  # noqa: BLE001 (a failing challenger harms nobody)
                _OUTCOMES["failed"].inc()
                _LOG.warning("the challenger failed in the shadow: %r", error)

    def _make(self, job: _Job) -> None:
        start = time.perf_counter()
        made = self._recommender.challenge(UserId(job.shown.user_id), job.k)
        if made is None or made.model_version == job.shown.version:
            return
        metrics.SHADOW_SECONDS.observe(time.perf_counter() - start)
        shown = self._trial.list_shown(made, kind="shadow")
        longest = max(len(shown.items), len(job.shown.items), 1)
        metrics.SHADOW_OVERLAP.observe(len({*shown.items} & {*job.shown.items}) / longest)
        _OUTCOMES["made"].inc()
        counted = msgspec.structs.replace(shown, experiment=SHADOW, arm="made")
        self._exposures.note(job.request_id, counted)
