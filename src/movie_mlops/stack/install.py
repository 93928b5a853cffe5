"""Installs what engines lack by apt, and stops the daemons that come with the packages."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from movie_mlops.domain.errors import EngineUnavailableError
from movie_mlops.stack.base import clean_environment

_INSTALL_SECONDS = 900.0


def install_line(packages: Sequence[str]) -> str:
    """What to type."""
    sudo = "" if os.geteuid() == 0 else "sudo "
    return f"{sudo}apt-get install --no-install-recommends {' '.join(packages)}"


def install(packages: Sequence[str]) -> None:
    """Install Debian packages; their own daemons are stopped and do not start with the machine.

    Raises:
        EngineUnavailableError: not root, no apt, or apt failed; with what to type or what it said.
    """
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        message = f"only root may install, on Debian; type: {install_line(packages)}"
        raise EngineUnavailableError(message)
    _run("apt-get", "update", "-q")
    _run("apt-get", "install", "-q", "-y", "--no-install-recommends", *packages)
    for package in packages:
        if Path("/run/systemd/system").is_dir():
            _run("systemctl", "disable", "--now", package, must=False)
        elif Path("/etc/init.d", package).exists():
            _run("service", package, "stop", must=False)


def _run(*command: str, must: bool = True) -> None:
    environment = {**clean_environment(), "DEBIAN_FRONTEND": "noninteractive"}
    ran = subprocess.run(  # noqa: S603 (apt's own programs, packages of our table)
        command,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_INSTALL_SECONDS,
        check=False,
    )
    if must and ran.returncode:
        last = (ran.stderr or ran.stdout).strip().splitlines()[-2:]
        message = f"{' '.join(command[:2])} failed ({ran.returncode}): {' | '.join(last)}"
        raise EngineUnavailableError(message)
