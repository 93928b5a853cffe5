"""What the closed loop remembers: an audit trail, retrainings by cause, roll-outs under way."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from movie_mlops.automation import loop_schema
from movie_mlops.automation.loop_sqlite import LoopFile
from movie_mlops.domain.errors import ConfigurationError
from movie_mlops.events.schemas import LoopTransition, new_event_id
from movie_mlops.state import Database, State

KEPT_TRANSITIONS = 10_000
FILE = "loop.db"
_BUSY_SECONDS = 5.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
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
    """Tables that any process of the home may use, see `open_loop_store`.

    What a method noted is there after a kill of any process. Every method raises
    EngineUnavailableError when the engine does not answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, event: LoopTransition, event_id: str | None = None) -> bool:
        """Add to the audit trail; whether it was not there yet under this id."""
        row = asdict(event) | {
            "event_id": event_id or new_event_id(),
            "at_us": _us(event.timestamp),
        }
        del row["timestamp"]
        names, places = ", ".join(row), ", ".join("?" * len(row))
        query = (
            f"INSERT INTO transitions ({names}) VALUES ({places})"  # noqa: S608 (ours)
            " ON CONFLICT DO NOTHING"
        )
        with self._database.changing() as connection:
            added = bool(connection.execute(query, tuple(row.values())).rowcount)
            connection.execute(
                "DELETE FROM transitions WHERE published = 1 AND number <="
                " (SELECT max(number) FROM transitions) - ?",
                (KEPT_TRANSITIONS,),
            )
        return added

    def history(self, limit: int = 100, cause: str | None = None) -> list[Noted]:
        """The latest transitions, newest first; of one cause when it is named."""
        query = (
            "SELECT * FROM transitions WHERE ? IS NULL OR cause = ? ORDER BY number DESC LIMIT ?"
        )
        return [_noted(row) for row in self._database.rows(query, (cause, cause, limit))]

    def unpublished(self) -> list[Noted]:
        """Transitions whose event is not in the log yet, in order."""
        rows = self._database.rows(
            "SELECT * FROM transitions WHERE published = 0 ORDER BY number LIMIT 100"
        )
        return [_noted(row) for row in rows]

    def mark_published(self, noted: Sequence[Noted]) -> None:
        """The events of these are in the log."""
        with self._database.changing() as connection:
            connection.executemany(
                "UPDATE transitions SET published = 1 WHERE number = ?",
                [(each.number,) for each in noted],
            )

    def add_retraining(self, retraining: Retraining) -> bool:
        """Note it before it is started; False when its cause has one already."""
        row = asdict(retraining) | {"at": _us(retraining.at)}
        with self._database.changing() as connection:
            query = "INSERT INTO retrainings VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
            return bool(connection.execute(query, tuple(row.values())).rowcount)

    def end_retraining(self, cause: str, state: RetrainingState) -> None:
        """Note how it ended."""
        with self._database.changing() as connection:
            query = "UPDATE retrainings SET state = ? WHERE cause = ?"
            connection.execute(query, (state, cause))

    def retrainings(self, model_name: str | None = None) -> list[Retraining]:
        """The latest 100, newest first; of one model when it is named."""
        query = (
            "SELECT cause, model_name, score, at_us, run_id, state FROM retrainings"
            " WHERE ? IS NULL OR model_name = ? ORDER BY at_us DESC LIMIT 100"
        )
        rows = self._database.rows(query, (model_name, model_name))
        return [
            Retraining(cause, model, score, _time(at), run_id, state)
            for cause, model, score, at, run_id, state in rows
        ]

    def put_rollout(self, state: RolloutState) -> None:
        """Where this model's challenger is now; it replaces the one before."""
        row = asdict(state) | {"since": _us(state.since)}
        query = (
            "INSERT INTO rollouts VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (model_name) DO UPDATE SET"
            " version = excluded.version, against = excluded.against, stage = excluded.stage,"
            " since_us = excluded.since_us, cause = excluded.cause"
        )
        with self._database.changing() as connection:
            connection.execute(query, tuple(row.values()))

    def drop_rollout(self, model_name: str) -> None:
        """No challenger of this model is on its way."""
        with self._database.changing() as connection:
            connection.execute("DELETE FROM rollouts WHERE model_name = ?", (model_name,))

    def rollouts(self) -> list[RolloutState]:
        """The roll-outs under way."""
        rows = self._database.rows(
            "SELECT model_name, version, against, stage, since_us, cause FROM rollouts"
        )
        return [
            RolloutState(model, version, against, stage, _time(since), cause)
            for model, version, against, stage, since, cause in rows
        ]

    def stop(self, model_name: str, reason: str, at: datetime) -> bool:
        """Let drift set nothing off any more until `resume`; whether it was not stopped yet."""
        with self._database.changing() as connection:
            query = "INSERT INTO stopped VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
            return bool(connection.execute(query, (model_name, reason, _us(at))).rowcount)

    def resume(self, model_name: str) -> bool:
        """Let drift set trainings off again; whether it was stopped."""
        with self._database.changing() as connection:
            query = "DELETE FROM stopped WHERE model_name = ?"
            return bool(connection.execute(query, (model_name,)).rowcount)

    def stopped(self) -> dict[str, str]:
        """Models for which the loop stopped, and why."""
        return dict(self._database.rows("SELECT model_name, reason FROM stopped"))


def open_loop_store(state: State) -> LoopStore:
    """The loop's records of a home; nothing is opened yet.

    Raises:
        ConfigurationError: PostgreSQL's client is missing.
    """
    if isinstance(state, Path):
        return LoopStore(LoopFile(state / FILE, loop_schema.SQLITE))
    try:
        from movie_mlops.state.postgresql import PostgresqlDatabase  # noqa: PLC0415 (an extra)
    except ImportError as error:
        message = (
            f"MOVIE_MLOPS_STATE_URL=postgresql://… needs PostgreSQL's client ({error}): "
            "pip install 'movie-mlops[stack]'"
        )
        raise ConfigurationError(message) from error
    return LoopStore(PostgresqlDatabase(state, "loop", loop_schema.POSTGRESQL, _BUSY_SECONDS))


def _noted(row: tuple[Any, ...]) -> Noted:
    number, event_id, at_us, model, subject, before, after, reason, actor, cause, _ = row
    event = LoopTransition(model, subject, before, after, reason, actor, cause, _time(at_us))
    return Noted(number, event_id, event)


def _us(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)


def _time(us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=us)
