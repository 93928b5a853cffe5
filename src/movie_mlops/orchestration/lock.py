"""One writer per home: an advisory lock file that names its holder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from movie_mlops.domain.errors import HomeLockedError


def run_lock(home: Path) -> Path:
    """The lock of what writes tables and models: pipelines and snapshots."""
    return home / "var" / "run.lock"


def worker_lock(home: Path) -> Path:
    """The lock of the one worker, and of a restore, which must not run beside it."""
    return home / "var" / "worker.lock"


@contextmanager
def writer_lock(path: Path, what: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock while the block runs; the kernel frees it when the process dies.

    With `wait` the holder is waited for, however long it takes.

    Raises:
        HomeLockedError: another process holds it; the text names the process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            stream.seek(0)
            holder = stream.read(200).strip() or "another process"
            message = f"{path.parent.parent.absolute()} is in use by {holder}; stop it first"
            raise HomeLockedError(message) from error
        stream.truncate(0)
        stream.write(f"{what} (process {os.getpid()})\n")
        stream.flush()
        yield
