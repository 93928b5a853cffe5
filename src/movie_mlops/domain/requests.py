"""Ids of requests: made in the order of time, so that what a request left is found at its time."""

import random
import re
import time

_MADE_HERE = re.compile(r"[0-9a-f]{32}")
_TIME_DIGITS = 12


def new_request_id() -> str:
    """The millisecond in 12 hexadecimal digits, 80 random bits in 20; it names, not protects."""
    return f"{(time.time_ns() // 1_000_000 << 80) | random.getrandbits(80):032x}"


def made_at_ms(request_id: str) -> int | None:
    """The millisecond since 1970 in an id of `new_request_id`; None for ids of other forms."""
    if not _MADE_HERE.fullmatch(request_id):
        return None
    return int(request_id[:_TIME_DIGITS], 16)
