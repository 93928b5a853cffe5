"""Files that take their place at once, and folders with one writer."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Place = Callable[[Path, Path], Any]


@contextmanager
def replacing(target: Path, place: Place = Path.replace) -> Iterator[Path]:
    """Yield a path beside `target` to write to; on success it takes the target's place at once.

    On any exception the partial file is removed and the target stays as it was. Readers see the
    old file or the new one, never a part. One writer per target at a time. `place` brings the
    finished file to the target.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    try:
        yield partial
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        place(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def holding(root: Path, name: str = ".writing") -> Iterator[None]:
    """Wait for, then keep, the right to write event files below `root` or to snapshot them.

    Between processes and threads; the kernel frees it when the process dies. Not to be nested
    under one name.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / name).open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def pin(file: Path, folder: Path) -> Path:
    """Another name for the file's present content."""
    pinned = folder / file.name
    try:
        os.link(file, pinned)
    except OSError:  # a file system without hard links
        shutil.copyfile(file, pinned)
    return pinned
