"""The stack: every engine of the house started natively on loopback, watched and stopped."""

from movie_mlops.stack.base import Engine, Ground, Missing, Process, State, Status
from movie_mlops.stack.stack import Stack, free_ports

__all__ = ["Engine", "Ground", "Missing", "Process", "Stack", "State", "Status", "free_ports"]
