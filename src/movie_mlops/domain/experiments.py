"""An A/B test: its arms, and which of them a viewer belongs to."""

import hashlib
import re
from dataclasses import dataclass
from typing import Any, ClassVar

from movie_mlops.domain.versions import Alias

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Arm:
    """One side of a test; `weight` is relative to the other arms' weights."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    name: str
    alias: Alias = Alias.CHAMPION
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            message = f"an arm is named with 1 to 64 of A-Z a-z 0-9 . _ -, not {self.name[:80]!r}"
            raise ValueError(message)
        if not 0 < self.weight < float("inf"):
            message = f"the weight of arm {self.name} must be a number above 0"
            raise ValueError(message)


@dataclass(frozen=True, slots=True)
class Experiment:
    """A test; the first arm is the control. `alpha` is the false-alarm rate of its verdict.

    A viewer counts when `attribution_minutes` have passed since the arm was first shown to them.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    name: str
    arms: tuple[Arm, ...]
    attribution_minutes: float = 60.0
    alpha: float = 0.05

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            message = f"a test is named with 1 to 64 of A-Z a-z 0-9 . _ -, not {self.name[:80]!r}"
            raise ValueError(message)
        if not 2 <= len({arm.name for arm in self.arms}) == len(self.arms) <= 10:
            message = f"the test {self.name} needs 2 to 10 arms with different names"
            raise ValueError(message)
        if not 0 < self.attribution_minutes <= 100_000 or not 0 < self.alpha < 1:
            message = (
                f"the test {self.name}: attribution_minutes lies in 0 … 100000, alpha in 0 … 1"
            )
            raise ValueError(message)

    @property
    def shares(self) -> tuple[float, ...]:
        """The share of viewers that each arm is meant to get; they sum to 1."""
        total = sum(arm.weight for arm in self.arms)
        return tuple(arm.weight / total for arm in self.arms)

    def arm_of(self, user_id: str) -> Arm:
        """The viewer's arm: always the same one, and independent of those in other tests."""
        drawn = int.from_bytes(self.subject(user_id)[:8], "big") / 2**64
        for arm, share in zip(self.arms, self.shares, strict=True):
            drawn -= share
            if drawn < 0:
                return arm
        return self.arms[-1]

    def subject(self, user_id: str) -> bytes:
        """16 bytes that stand for the viewer in this test's records; the name is the salt."""
        text = f"{self.name}\0{user_id}"
        return hashlib.blake2b(text.encode(errors="replace"), digest_size=16).digest()
