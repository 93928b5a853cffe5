"""The window of recent ids: the same answer wherever reading begins."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from movie_mlops.events import repeats
from movie_mlops.events.base import Place, Position, Record, Standing
from movie_mlops.events.repeats import Repeats, Stored

PLACE = Place("user-events", 0)


def stored(offset: int, event_id: str, identity: bytes = b"") -> Stored:
    record = Record(Position(*PLACE, offset), event_id, "7", "t.v1", b"{}", 0)
    return Stored(record, identity)


class Log:
    """A partition in memory that can be read from any offset."""

    def __init__(self, lying: list[Stored]) -> None:
        self.lying, self.fetched = lying, 0

    def fetch(self, place: Place, start: int, stop: int) -> Iterable[Stored]:
        assert place == PLACE
        self.fetched += 1
        return [each for each in self.lying if start <= each.record.position.offset < stop]


def plain(lying: list[Stored], window: int) -> list[Standing]:
    """The rule, said slowly."""
    answers = []
    for place, (record, identity) in enumerate(lying):
        offset = record.position.offset
        before = [
            each.identity
            for each in lying[:place]
            if each.record.event_id == record.event_id
            and each.record.position.offset >= offset - window
        ]
        if not before:
            answers.append(Standing.FIRST)
        else:
            same = before[-1] == identity
            answers.append(Standing.DUPLICATE if same else Standing.CONFLICT)
    return answers


@given(
    events=st.lists(
        st.tuples(st.integers(1, 3), st.sampled_from("abcdef"), st.sampled_from([b"x", b"y"])),
        max_size=60,
    ),
    window=st.integers(1, 20),
    start=st.integers(0, 60),
)
def test_the_standing_is_that_of_the_plain_rule_from_any_start(
    events: list[tuple[int, str, bytes]], window: int, start: int
) -> None:
    offset, lying = -1, []
    for step, event_id, identity in events:  # steps above one are gaps in the log
        offset += step
        lying.append(stored(offset, event_id, identity))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repeats, "WINDOW", window)
        judged = Repeats(Log(lying).fetch).judged(lying[start:])
    assert [record.standing for record in judged] == plain(lying, window)[start:]
    assert [replace(record, standing=Standing.FIRST) for record in judged] == [
        each.record for each in lying[start:]
    ]


def test_a_window_is_kept_while_reading_goes_on_and_made_anew_after_a_jump() -> None:
    log = Log([stored(offset, f"id-{offset}") for offset in range(50)])
    known = Repeats(log.fetch)
    known.judged(log.lying[10:20])
    known.continues(PLACE, 20)
    known.judged(log.lying[20:30])
    assert log.fetched == 1
    known.continues(PLACE, 40)
    known.judged(log.lying[40:])
    assert log.fetched == 2
    known.judged(log.lying[5:6])  # set back
    assert log.fetched == 3
    known.forget([PLACE])
    known.judged(log.lying[6:7])
    assert log.fetched == 4


def test_a_window_stays_as_small_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "WINDOW", 100)
    known = Repeats(Log([]).fetch)
    known.judged([stored(offset, f"id-{offset}") for offset in range(5_000)])
    assert len(known._windows[PLACE]._seen) <= 101
