"""Which processes are an engine's: by note and start time, by descent, by the log they write to."""

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from movie_mlops.domain.errors import EngineUnavailableError

_PROC = Path("/proc")
_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Identity:
    """One process of one boot: a reused pid has other ticks, another boot another id."""

    boot: str
    pid: int
    ticks: int


@dataclass(frozen=True, slots=True)
class _Row:
    parent: int
    ticks: int


def read_identity(path: Path) -> Identity | None:
    """The note that `launch.py` wrote; None for none, a torn one or nonsense."""
    try:
        boot, pid, ticks = path.read_text().split()
        return Identity(boot, int(pid), int(ticks))
    except (OSError, ValueError):
        return None


class Survey:
    """One look at all processes of this machine; zombies are none.

    Raises:
        EngineUnavailableError: there is no /proc here.
    """

    def __init__(self) -> None:
        try:
            self.boot = (_PROC / "sys" / "kernel" / "random" / "boot_id").read_text().strip()
        except FileNotFoundError as error:
            message = "the stack reads /proc, which only Linux has; give the house URLs of engines"
            raise EngineUnavailableError(message) from error

    def is_alive(self, identity: Identity) -> bool:
        """Whether exactly this process runs."""
        row = _row(_PROC / str(identity.pid))  # one, and not all: starts ask this often
        return identity.boot == self.boot and row is not None and row.ticks == identity.ticks

    def family(self, identities: tuple[Identity, ...], folder: Path) -> tuple[Identity, ...]:
        """All processes that belong to these, or whose output goes to a log in the folder.

        The logs tell orphans whose first process was killed, whatever session they made.
        """
        ours = {each.pid for each in identities if self.is_alive(each)} & self._rows.keys()
        ours |= {pid for pid, to in self.outputs if _is_log_in(to, folder)}
        grown = 0
        while grown != len(ours):
            grown = len(ours)
            ours |= {pid for pid, row in self._rows.items() if row.parent in ours}
        return tuple(Identity(self.boot, pid, self._rows[pid].ticks) for pid in sorted(ours))

    @cached_property
    def _rows(self) -> dict[int, _Row]:
        found = ((int(path.name), _row(path)) for path in _PROC.iterdir() if path.name.isdecimal())
        return {pid: row for pid, row in found if row is not None}

    @cached_property
    def outputs(self) -> list[tuple[int, str]]:
        """Every process with the files that it says things to, as far as they may be seen."""
        found = []
        for pid in self._rows:
            for number in ("1", "2"):
                try:
                    found.append((pid, str((_PROC / str(pid) / "fd" / number).readlink())))
                except OSError:  # somebody else's, or it has just ended
                    continue
        return found


def memory(pids: tuple[int, ...]) -> int:
    """Memory of these processes in bytes, shared pages shared out (PSS)."""
    total = 0
    for pid in pids:
        try:
            found = _PSS.search((_PROC / str(pid) / "smaps_rollup").read_text())
        except OSError:
            continue
        total += 1024 * int(found[1]) if found else 0
    return total


def age(identity: Identity) -> float:
    """Seconds since the process was started."""
    up = float((_PROC / "uptime").read_text().split()[0])
    return max(0.0, up - identity.ticks / _TICKS_PER_SECOND)


def _is_log_in(target: str, folder: Path) -> bool:
    return target.startswith(f"{folder}/") and ".log" in target.rpartition("/")[2]


def _row(path: Path) -> _Row | None:
    try:
        fields = (path / "stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
    return _Row(int(fields[1]), int(fields[19])) if fields[0] not in "ZX" else None
