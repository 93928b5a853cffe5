"""Which code made a model."""

import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

_SECONDS = 5.0


@cache
def code_version() -> str:
    """The package's version; in a git checkout with `+g<commit>`, and `.dirty` when changed.

    As PEP 440 writes local versions (https://peps.python.org/pep-0440/#local-version-identifiers).
    """
    released = version("movie-mlops")
    # a checkout that merely holds the environment, where git ignores us, is not our code
    if not _git("ls-files", "--error-unmatch", __file__):
        return released
    found = _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    commit, _, dirty = found.partition("-")
    return f"{released}+g{commit}{dirty and '.dirty'}" if commit else released


def _git(*arguments: str) -> str:
    """What git says here; empty when it is not there or refuses."""
    try:
        done = subprocess.run(  # noqa: S603 (the arguments are ours)
            ["git", *arguments],  # noqa: S607 (whichever git the path has)
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
