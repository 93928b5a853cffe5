"""One writer per home: an advisory lock file that names its holder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from movie_mlops.domain.errors import HomeLockedError


@contextmanager
def writer_lock(path: Path, what: str) -> Iterator[None]:
    """Hold the lock while the block runs; the kernel frees it when the process dies.

    Raises:
        HomeLockedError: another process holds it; the text names the process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            holder = stream.read(200).strip() or "another process"
            message = f"{path.parent.parent.absolute()} is in use by {holder}; stop it first"
            raise HomeLockedError(message) from error
        stream.truncate(0)
        stream.write(f"{what} (process {os.getpid()})\n")
        stream.flush()
        yield
