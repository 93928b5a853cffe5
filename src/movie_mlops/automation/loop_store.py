"""What the closed loop remembers: an audit trail, retrainings by cause, roll-outs under way."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from movie_mlops.domain.errors import EngineUnavailableError
from movie_mlops.events.schemas import LoopTransition, new_event_id

KEPT_TRANSITIONS = 10_000
_BUSY_SECONDS = 5.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS transitions (
  number INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL UNIQUE, at_us INTEGER NOT NULL,
  model_name TEXT NOT NULL, subject TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL,
  reason TEXT NOT NULL, actor TEXT NOT NULL, cause TEXT NOT NULL,
  published INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS unpublished ON transitions (number) WHERE NOT published;
CREATE TABLE IF NOT EXISTS retrainings (
  cause TEXT PRIMARY KEY, model_name TEXT NOT NULL, score REAL NOT NULL, at_us INTEGER NOT NULL,
  run_id TEXT NOT NULL, state TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rollouts (
  model_name TEXT PRIMARY KEY, version TEXT NOT NULL, against TEXT NOT NULL, stage TEXT NOT NULL,
  since_us INTEGER NOT NULL, cause TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS stopped (
  model_name TEXT PRIMARY KEY, reason TEXT NOT NULL, at_us INTEGER NOT NULL
) WITHOUT ROWID;
"""

RetrainingState = Literal["running", "succeeded", "failed"]


@dataclass(frozen=True, slots=True)
class Retraining:
    """A training that a cause set off; one per cause."""

    cause: str
    model_name: str
    score: float
    at: datetime
    run_id: str
    state: RetrainingState


@dataclass(frozen=True, slots=True)
class RolloutState:
    """A challenger on its way; `against` is the champion that it is compared with."""

    model_name: str
    version: str
    against: str
    stage: str
    since: datetime
    cause: str


@dataclass(frozen=True, slots=True)
class Noted:
    """A transition as it stands in the audit trail."""

    number: int
    event_id: str
    event: LoopTransition


class LoopStore:
    """One SQLite file; every call opens it anew, so any process of the home may use it.

    Every method raises EngineUnavailableError when the file does not answer.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_made = False

    def note(self, event: LoopTransition, event_id: str | None = None) -> bool:
        """Add to the audit trail; whether it was not there yet under this id."""
        row = asdict(event) | {
            "event_id": event_id or new_event_id(),
            "at_us": _us(event.timestamp),
        }
        del row["timestamp"]
        names, places = ", ".join(row), ", ".join("?" * len(row))
        query = f"INSERT OR IGNORE INTO transitions ({names}) VALUES ({places})"  # noqa: S608 (ours)
        with self._changing() as connection:
            added = connection.execute(query, tuple(row.values())).rowcount > 0
            connection.execute(
                "DELETE FROM transitions WHERE published AND number <="
                " (SELECT max(number) FROM transitions) - ?",
                (KEPT_TRANSITIONS,),
            )
        return added

    def history(self, limit: int = 100, cause: str | None = None) -> list[Noted]:
        """The latest transitions, newest first; of one cause when it is named."""
        query = (
            "SELECT * FROM transitions WHERE ? IS NULL OR cause = ? ORDER BY number DESC LIMIT ?"
        )
        return [_noted(row) for row in self._rows(query, (cause, cause, limit))]

    def unpublished(self) -> list[Noted]:
        """Transitions whose event is not in the log yet, in order."""
        rows = self._rows("SELECT * FROM transitions WHERE NOT published ORDER BY number LIMIT 100")
        return [_noted(row) for row in rows]

    def mark_published(self, noted: Sequence[Noted]) -> None:
        """The events of these are in the log."""
        with self._changing() as connection:
            connection.executemany(
                "UPDATE transitions SET published = 1 WHERE number = ?",
                [(each.number,) for each in noted],
            )

    def add_retraining(self, retraining: Retraining) -> bool:
        """Note it before it is started; False when its cause has one already."""
        row = asdict(retraining) | {"at": _us(retraining.at)}
        with self._changing() as connection:
            query = "INSERT OR IGNORE INTO retrainings VALUES (?, ?, ?, ?, ?, ?)"
            return connection.execute(query, tuple(row.values())).rowcount > 0

    def end_retraining(self, cause: str, state: RetrainingState) -> None:
        """Note how it ended."""
        with self._changing() as connection:
            query = "UPDATE retrainings SET state = ? WHERE cause = ?"
            connection.execute(query, (state, cause))

    def retrainings(self, model_name: str | None = None) -> list[Retraining]:
        """The latest 100, newest first; of one model when it is named."""
        query = (
            "SELECT cause, model_name, score, at_us, run_id, state FROM retrainings"
            " WHERE ? IS NULL OR model_name = ? ORDER BY at_us DESC LIMIT 100"
        )
        rows = self._rows(query, (model_name, model_name))
        return [
            Retraining(cause, model, score, _time(at), run_id, state)
            for cause, model, score, at, run_id, state in rows
        ]

    def put_rollout(self, state: RolloutState) -> None:
        """Where this model's challenger is now; it replaces the one before."""
        row = asdict(state) | {"since": _us(state.since)}
        query = "REPLACE INTO rollouts VALUES (?, ?, ?, ?, ?, ?)"
        with self._changing() as connection:
            connection.execute(query, tuple(row.values()))

    def drop_rollout(self, model_name: str) -> None:
        """No challenger of this model is on its way."""
        with self._changing() as connection:
            connection.execute("DELETE FROM rollouts WHERE model_name = ?", (model_name,))

    def rollouts(self) -> list[RolloutState]:
        """The roll-outs under way."""
        rows = self._rows(
            "SELECT model_name, version, against, stage, since_us, cause FROM rollouts"
        )
        return [
            RolloutState(model, version, against, stage, _time(since), cause)
            for model, version, against, stage, since, cause in rows
        ]

    def stop(self, model_name: str, reason: str, at: datetime) -> bool:
        """Let drift set nothing off any more until `resume`; whether it was not stopped yet."""
        with self._changing() as connection:
            query = "INSERT OR IGNORE INTO stopped VALUES (?, ?, ?)"
            return connection.execute(query, (model_name, reason, _us(at))).rowcount > 0

    def resume(self, model_name: str) -> bool:
        """Let drift set trainings off again; whether it was stopped."""
        with self._changing() as connection:
            query = "DELETE FROM stopped WHERE model_name = ?"
            return connection.execute(query, (model_name,)).rowcount > 0

    def stopped(self) -> dict[str, str]:
        """Models for which the loop stopped, and why."""
        return dict(self._rows("SELECT model_name, reason FROM stopped"))

    def _rows(self, query: str, arguments: tuple[object, ...] = ()) -> list[Any]:
        with self._open() as connection:
            return connection.execute(query, arguments).fetchall()

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(
                sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)
            ) as connection:
                connection.execute("PRAGMA synchronous = FULL")
                if not self._is_made:
                    connection.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT;")
                    self._is_made = True
                yield connection
        except (sqlite3.Error, OSError) as error:
            message = f"the loop's records in {self._path} do not answer: {error}"
            raise EngineUnavailableError(message) from error


def _noted(row: tuple[Any, ...]) -> Noted:
    number, event_id, at_us, model, subject, before, after, reason, actor, cause, _ = row
    event = LoopTransition(model, subject, before, after, reason, actor, cause, _time(at_us))
    return Noted(number, event_id, event)


def _us(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)


def _time(us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=us)
