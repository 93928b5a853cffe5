"""Becomes an engine's process; it notes who it is first, so that no kill leaves one unknown.

Run as a file: `python -I -S launch.py NOTE_FD LOCK_FD USER COMMAND...`. The lock of the stack is
held by this process too until the note is written. Imports nothing of the house.
"""

import os
import pwd
import sys
from pathlib import Path


def main(note: int, lock: int, user: str, *command: str) -> None:
    """Write `boot id, pid, start time in clock ticks`, become the user, become the command."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    ticks = Path("/proc/self/stat").read_text().rpartition(") ")[2].split()[19]
    os.write(note, f"{boot} {os.getpid()} {ticks}\n".encode())
    os.close(note)
    os.close(lock)
    if user:
        entry = pwd.getpwnam(user)
        os.initgroups(user, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    os.execvp(command[0], command)  # noqa: S606 (no shell is meant)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], *sys.argv[4:])
