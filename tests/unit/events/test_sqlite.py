"""What only the embedded log promises."""

from contextlib import closing
from pathlib import Path

from movie_mlops.events.base import NewEvent, Place
from movie_mlops.events.sqlite import SqliteEventLog


def test_what_a_group_skips_is_not_read_and_never_read_again(tmp_path: Path) -> None:
    with closing(SqliteEventLog(tmp_path / "events.db", {"t": 1}, 1_000_000_000)) as log:
        log.publish("t", [NewEvent(f"e{n}", "key", "a.v1", b"{}") for n in range(6)])
        log.skip("g", {Place("t", 0): 2})
        assert [each.event_id for each in log.poll("g", ["t"], 2)] == ["e2", "e3"]
        log.skip("g", {Place("t", 0): 1})  # never back
        assert [each.event_id for each in log.poll("g", ["t"], 9)] == ["e4", "e5"]
        assert log.committed("g", ["t"]) == {Place("t", 0): 0}
        assert len(log.poll("other", ["t"], 9)) == 6
