"""Joins what viewers did to what they were shown; one process of a home at a time does it."""

import logging
import threading
import time
from collections.abc import Sequence

from movie_mlops.domain.errors import EngineUnavailableError, UnknownEventError
from movie_mlops.domain.experiments import Experiment
from movie_mlops.domain.interactions import InteractionType, is_positive
from movie_mlops.events import EventLog
from movie_mlops.events.base import Record, next_positions
from movie_mlops.events.schemas import USER_EVENTS, UserInteractionEvent, decode
from movie_mlops.models.serving.ab_report import encode_definition, window_ms
from movie_mlops.models.serving.experiment_store import ExperimentStore
from movie_mlops.models.serving.exposure_store import ExposureStore
from movie_mlops.models.serving.exposures import ExposureLog

_LOOK_SECONDS = 0.2
_SETTLE_SECONDS = 0.5  # what an event answers to is written by then, in whichever process
_LOOK_UP_SECONDS = 0.05  # ids that name nothing must not hold up the others
_FAR_SECONDS = 60.0
_BATCH, _MOST_HELD = 2_000, 20_000
_LOG = logging.getLogger(__name__)


class OutcomeJoiner:
    """Reads the event log as a group of its own; a user's first joined outcome counts, once.

    An outcome is a click, a like, a watch or a good rating that names the request whose answer it
    follows. It counts when it arrives within the test's window, whatever its own time says, so
    what counted once is never changed by what comes late. Where the store is PostgreSQL, two
    processes may join the same events for the moment in which the lead changes hands: a user
    still counts once.
    """

    def __init__(
        self, experiment: Experiment, log: EventLog, store: ExposureStore, exposures: ExposureLog
    ) -> None:
        self._experiment, self._log, self._exposures = experiment, log, exposures
        self._store, self._tests = store, ExperimentStore(store)
        self._group = f"experiment-{experiment.name}"
        self._held: list[Record] = []
        self._is_registered = self._leads = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outcomes", daemon=True)

    def start(self) -> None:
        """Make the test known, now or when log and store answer, then join until `stop`."""
        try:
            self._register()
        except EngineUnavailableError as error:
            _LOG.warning("the test %s begins later: %s", self._experiment.name, error)
        self._thread.start()

    def stop(self) -> None:
        """Stop joining; another process goes on."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def join(self) -> None:
        """Take in what has arrived and settled, when this process leads."""
        self._register()
        if not self._store.lead():
            self._leads, self._held = False, []
            return
        if not self._leads:
            self._log.seek(self._group, self._log.committed(self._group, [USER_EVENTS]))
            self._leads = True
        settled = 1e6 * (time.time() - _SETTLE_SECONDS)
        records: Sequence[Record] = ()
        if len(self._held) < _MOST_HELD:
            records = self._log.poll(self._group, [USER_EVENTS], _BATCH)
            self._held += records
        is_caught_up = len(records) < _BATCH and len(self._held) < _MOST_HELD
        far = settled + 1e6 * _FAR_SECONDS  # a clock that went back: no use to wait for it
        fresh = [record for record in self._held if settled < record.published_at < far]
        ready = [record for record in self._held if not settled < record.published_at < far]
        self._take(ready, round(settled / 1000) if is_caught_up else 0)
        if ready:
            self._log.commit(self._group, next_positions(ready))
        self._held = fresh

    def _register(self) -> None:
        if self._is_registered:
            return
        if self._tests.register(self._experiment.name, encode_definition(self._experiment)):
            self._log.commit(self._group, self._log.end_positions([USER_EVENTS]))
        self._exposures.experiment = self._experiment  # users are written where the test is known
        self._is_registered = True

    def _take(self, records: Sequence[Record], joined_ms: int) -> None:
        name, window = self._experiment.name, window_ms(self._experiment)
        acts = [(act, record) for record in records if (act := _outcome(record)) is not None]
        asked = [
            (self._experiment.subject(act.user_id), record.published_at // 1000)
            for act, record in acts
        ]
        still_open = self._tests.open_subjects(name, asked, window) if asked else []
        converted = [asked[place][0] for place in still_open if self._joins(acts[place][0])]
        self._tests.convert(name, converted, joined_ms)

    def _joins(self, act: UserInteractionEvent) -> bool:
        found = self._exposures.recall(act.request_id or "", act.user_id, _LOOK_UP_SECONDS)
        return found is not None and found.shown.experiment == self._experiment.name

    def _run(self) -> None:
        is_waiting = False
        while not self._stop.wait(_LOOK_SECONDS):
            try:
                self.join()
                is_waiting = False
            except EngineUnavailableError as error:
                if not is_waiting:
                    _LOG.warning("outcomes wait until this is over: %s", error)
                is_waiting = True
            except Exception:  # noqa: BLE001 (serving goes on whatever a record does)
                _LOG.exception("outcomes could not be joined")


def _outcome(record: Record) -> UserInteractionEvent | None:
    if b'"request_id"' not in record.body:
        return None
    try:
        event = decode(record)
    except UnknownEventError:
        return None
    if not isinstance(event, UserInteractionEvent) or event.request_id is None:
        return None
    kind = event.interaction_type
    return event if kind is InteractionType.CLICK or is_positive(kind, event.rating) else None
