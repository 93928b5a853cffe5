"""What is kept of each A/B test: its definition, its users' arms and whether they converted."""

from collections.abc import Mapping, Sequence
from time import time
from typing import NamedTuple

from movie_mlops.models.serving.exposure_store import ExposureStore

SHADOW = "(shadow)"
"""Stands where lists that were made unseen are counted; no test can have this name."""
_KEPT = 3


class Found(NamedTuple):
    """A stored test; `crossed` users, who were shown more than one arm, are in no cell."""

    definition: bytes
    started_ms: int
    changed: bool
    joined_ms: int
    """Every outcome before this is in."""
    subjects: int
    crossed: int
    versions: Mapping[str, Mapping[str, int]]
    """Arm to model version to lists shown."""
    cells: Sequence[tuple[int, str, int, int]]
    """(bucket of the users' first time, arm, users, conversions), in the order of buckets."""


class ExperimentStore:
    """Tests beside the exposures, in SQL of all engines; raises what `ExposureStore` raises."""

    def __init__(self, store: ExposureStore) -> None:
        self._store = store

    def register(self, name: str, definition: bytes) -> bool:
        """Note that a test runs; whether it is a new one. Only the latest few are kept.

        A test that runs with another definition than it began with is marked as changed.
        """
        with self._store.changing() as connection:
            added = connection.execute(
                "INSERT INTO experiments (name, definition, started_ms) VALUES (?, ?, ?)"
                " ON CONFLICT (name) DO NOTHING",
                (name, definition, round(1000 * time())),
            )
            is_new = bool(added.rowcount)
            connection.execute(
                "UPDATE experiments SET changed = 1 WHERE name = ? AND definition <> ?",
                (name, definition),
            )
            others = connection.execute(
                "SELECT name FROM experiments WHERE name <> ? ORDER BY started_ms DESC", (name,)
            ).fetchall()
            old = others[_KEPT - 1 :]
            # the test itself first, here as everywhere: then no two transactions wait in a circle
            connection.executemany("DELETE FROM experiments WHERE name = ?", old)
            connection.executemany("DELETE FROM subjects WHERE experiment = ?", old)
            connection.executemany("DELETE FROM arms WHERE experiment = ?", old)
            return is_new

    def open_subjects(
        self, name: str, acts: Sequence[tuple[bytes, int]], window_ms: int
    ) -> list[int]:
        """Places of those (subject, time) whose conversion would count and has not yet."""
        query = (
            "SELECT 1 FROM subjects WHERE experiment = ? AND subject = ? AND converted = 0"
            " AND ? BETWEEN first_ms AND first_ms + ?"
        )
        with self._store.reading() as connection:
            return [
                place
                for place, (subject, at) in enumerate(acts)
                if connection.execute(query, (name, subject, at, window_ms)).fetchone()
            ]

    def convert(self, name: str, subjects: Sequence[bytes], joined_ms: int) -> None:
        """Note these users' conversions, and that every outcome before `joined_ms` is in."""
        with self._store.changing() as connection:
            connection.execute(
                "UPDATE experiments SET joined_ms ="
                " CASE WHEN joined_ms < ? THEN ? ELSE joined_ms END WHERE name = ?",
                (joined_ms, joined_ms, name),
            )
            connection.executemany(
                "UPDATE subjects SET converted = 1 WHERE experiment = ? AND subject = ?",
                [(name, subject) for subject in subjects],
            )

    def erase(self, subjects: Mapping[str, bytes]) -> int:
        """Take one subject out of each of these tests; how many there were."""
        query = "DELETE FROM subjects WHERE experiment = ? AND subject = ?"
        with self._store.changing() as connection:
            return sum(connection.execute(query, each).rowcount for each in subjects.items())

    def shadow_lists(self, version: str) -> int:
        """Lists that this version made unseen."""
        rows = self._store.rows(
            "SELECT sum(exposures) FROM arms WHERE experiment = ? AND version = ?",
            (SHADOW, version),
        )
        return int(rows[0][0] or 0)

    def names(self) -> list[str]:
        """Tests that are or were, the latest first."""
        rows = self._store.rows("SELECT name FROM experiments ORDER BY started_ms DESC, name")
        return [name for (name,) in rows]

    def definition(self, name: str) -> bytes | None:
        """How a test was defined when it began; None when there is none of this name."""
        rows = self._store.rows("SELECT definition FROM experiments WHERE name = ?", (name,))
        return rows[0][0] if rows else None

    def find(self, name: str, bucket_ms: int) -> Found | None:
        """All that is known of a test, with buckets of this length."""
        rows = self._store.rows(
            "SELECT definition, started_ms, changed, joined_ms, subjects FROM experiments"
            " WHERE name = ?",
            (name,),
        )
        if not rows:
            return None
        definition, started, changed, joined, subjects = rows[0]
        cells = self._store.rows(
            "SELECT first_ms / ?, arm, count(*), sum(converted) FROM subjects"
            " WHERE experiment = ? AND crossed = 0 GROUP BY 1, 2 ORDER BY 1",
            (bucket_ms, name),
        )
        [(crossed,)] = self._store.rows(
            "SELECT count(*) FROM subjects WHERE experiment = ? AND crossed = 1", (name,)
        )
        shown = self._store.rows(
            "SELECT arm, version, exposures FROM arms WHERE experiment = ?", (name,)
        )
        versions: dict[str, dict[str, int]] = {}
        for arm, version, exposures in shown:
            versions.setdefault(arm, {})[version] = exposures
        return Found(definition, started, bool(changed), joined, subjects, crossed, versions, cells)
