"""Starting, ending and asking processes; the stack is made of nothing else."""

import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from movie_mlops.domain.errors import EngineUnavailableError
from movie_mlops.stack.base import Ground, Process, clean_environment
from movie_mlops.stack.survey import Identity, Survey, read_identity

_LAUNCH = Path(__file__).with_name("launch.py")
SETUP_LOG = "setup.log"
_LARGEST_LOG_BYTES = 5_000_000
_KILL_SECONDS = 10.0
_LOOK_SECONDS = 0.05
_NOTE_SECONDS = 0.002
_children: list["subprocess.Popen[bytes]"] = []
"""What this process started, so that it can be reaped; an engine outlives a Stack."""


def launch(process: Process, folder: Path, lock: int) -> None:
    """Start a process in a session of its own; its note lies in `<folder>/<name>.pid`.

    `lock` is the descriptor of the held lock of the stack: whoever waits for it sees the note.
    """
    log = folder / f"{process.name}.log"
    if log.exists() and log.stat().st_size > _LARGEST_LOG_BYTES:
        log.replace(log.with_name(f"{log.name}.1"))
    with log.open("ab") as output, (folder / f"{process.name}.pid").open("wb") as note:
        fds = (note.fileno(), lock)
        command = [sys.executable, "-I", "-S", str(_LAUNCH), *map(str, fds), process.user or ""]
        child = subprocess.Popen(  # noqa: S603 (what the engine names)
            [*command, *process.command],
            env=_environment(process.environment, process.user),
            cwd=process.folder or folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=fds,
        )
        _children.append(child)
        while not os.fstat(note.fileno()).st_size and child.poll() is None:
            time.sleep(_NOTE_SECONDS)


def run_once(
    ground: Ground,
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    user: str | None = None,
    seconds: float = 120.0,
) -> None:
    """Run a command that prepares an engine, in its folder; its output lies in `setup.log`.

    Raises:
        EngineUnavailableError: it failed or took too long; with its last lines.
    """
    log = ground.folder / SETUP_LOG
    with log.open("wb") as output:  # a file: an orphan is known by it, see Survey.family
        try:
            code = subprocess.run(  # noqa: S603 (what the engine names)
                command,
                env=_environment(environment or {}, user),
                cwd=ground.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=seconds,
                check=False,
                user=user,
                group=None if user is None else pwd.getpwnam(user).pw_gid,
                extra_groups=None if user is None else [],
            ).returncode
        except subprocess.TimeoutExpired:
            code = -1
    if code:
        message = f"{Path(command[0]).name} failed ({code}): {tail(log, 3)} (log: {log})"
        raise EngineUnavailableError(message)
    log.unlink()


def look(names: Sequence[str], folder: Path, survey: Survey) -> tuple[Identity | None, ...]:
    """The living process of each name, None where it does not run."""
    noted = (read_identity(folder / f"{name}.pid") for name in names)
    return tuple(each if each and survey.is_alive(each) else None for each in noted)


def survey() -> Survey:
    """A look at all processes, those that this process started reaped before."""
    for child in _children:
        child.poll()
    return Survey()


def notes(folder: Path) -> tuple[Identity, ...]:
    """Every process that was noted in the folder, alive or not."""
    found = (read_identity(path) for path in sorted(folder.glob("*.pid")))
    return tuple(each for each in found if each is not None)


def end(folder: Path, number: signal.Signals, seconds: float) -> None:
    """End every process of the engine in this folder: the signal, then SIGKILL.

    Raises:
        EngineUnavailableError: one does not even end by SIGKILL.
    """
    noted, seen = notes(folder), survey()
    leaders = [each for each in noted if seen.is_alive(each)]
    members = set(seen.family(noted, folder))
    for leader in leaders:
        with suppress(ProcessLookupError):
            os.killpg(leader.pid, number)
    deadline = time.monotonic() + (seconds if leaders else 0.0)
    last = deadline + _KILL_SECONDS
    while True:
        seen = survey()
        left = {each for each in members if seen.is_alive(each)} | set(seen.family(noted, folder))
        if not left:
            break
        members |= left
        if time.monotonic() > last:
            pids = ", ".join(str(each.pid) for each in left)
            message = f"process {pids} of {folder.name} does not end, not even by SIGKILL"
            raise EngineUnavailableError(message)
        if time.monotonic() > deadline:
            for each in left:
                with suppress(ProcessLookupError):
                    os.kill(each.pid, signal.SIGKILL)
        time.sleep(_LOOK_SECONDS)
    for path in folder.glob("*.pid"):
        path.unlink()


def is_free(host: str, port: int) -> bool:
    """Whether a server can bind to the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def holder(port: int) -> str:
    """Who listens on the port."""
    import psutil  # noqa: PLC0415 (only when something is wrong)

    with suppress(psutil.Error, OSError):
        for each in psutil.net_connections("tcp"):
            if each.status == psutil.CONN_LISTEN and each.laddr.port == port and each.pid:
                return f"{psutil.Process(each.pid).name()} (process {each.pid})"
    return "another user's process"


def tail(log: Path, lines: int) -> str:
    """The last lines of a log, in one line."""
    if not log.exists():
        return ""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 4_000))
        said = stream.read().decode(errors="replace").strip().splitlines()
    return " | ".join(line.strip() for line in said[-lines:])


def _environment(more: Mapping[str, str], user: str | None) -> dict[str, str]:
    home = {} if user is None else {"HOME": pwd.getpwnam(user).pw_dir, "USER": user}
    return {**clean_environment(), **home, **more}
