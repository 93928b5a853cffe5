"""The port of the stack: what an engine says of itself, so that it can be started and stopped."""

import os
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

State = Literal[
    "running", "starting", "unhealthy", "stopped", "foreign", "waiting", "not installed"
]
"""unhealthy: it runs and does not answer; foreign: somebody else holds its port; waiting: the home
lacks what it serves, the note says what to do."""


@dataclass(frozen=True, slots=True)
class Missing:
    """What an engine lacks on this machine, in one line, and the Debian packages that bring it."""

    text: str
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Process:
    """One server process of an engine; it must stay in the foreground.

    Its environment is a clean one (PATH with this interpreter's folder first, HOME, LANG) and
    what `environment` adds: no MOVIE_MLOPS_ key of the caller is seen. Its output is appended to
    `<folder of the engine>/<name>.log`. It leads a session and process group of its own.
    """

    name: str
    """Unique within the engine, e.g. "api-server"."""
    command: tuple[str, ...]
    """Program (absolute, or found on PATH) and arguments; no secrets: `ps` shows them."""
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    """System user it must run as (PostgreSQL refuses root); only root may ask for one."""
    folder: Path | None = None
    """Working folder; None: the folder of the engine."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What an engine stands on."""

    folder: Path
    """`<home>/var/stack/<engine>`, absolute; it exists."""
    home: Path
    """The home of the house, absolute."""
    host: str
    """The address to bind to: loopback."""
    ports: Mapping[str, int]
    secret: Callable[[str], str]
    """A generated password by name (URL-safe text), the same at each call and each start; kept
    readable by its owner only in `<home>/var/stack/secrets.json`."""

    house: Callable[[], dict[str, str]]
    """MOVIE_MLOPS_HOME and the MOVIE_MLOPS_ keys, secrets included, of the other engines of this
    stack that run or are being started: for processes that run code of the house."""

    def port(self, engine: str) -> int:
        """The port of any engine, or of one of `more_ports`: the chosen one or the default."""
        return self.ports[engine]

    def url(self, engine: str, scheme: str = "http") -> str:
        """`scheme://host:port` of any engine."""
        return f"{scheme}://{self.host}:{self.port(engine)}"


class Engine(ABC):
    """One engine. Subclass it: what is not abstract here has a default.

    The stack calls `prepare`, starts the `processes`, asks `check` until it passes (at most
    `start_seconds`), then calls `after_start`. All of them may be called again at any time after
    a kill half-way, so each is idempotent.
    """

    name: str
    """Key on the command line and in `Ground.port`, e.g. "redis"."""
    title: str
    """As its makers write it, e.g. "Redis"."""
    port: int
    """Default port (loopback)."""
    needs: tuple[str, ...] = ()
    """Names of engines that must be healthy first; `up` of this one starts them too."""
    more_ports: Mapping[str, int] = MappingProxyType({})
    """Further ports by name with defaults, e.g. {"kafka-controller": 9094}."""
    start_seconds: float = 120.0
    """How long it may take from its start until `check` passes."""
    stop_seconds: float = 20.0
    """How long it may take to end after `stop_signal`; then it is killed."""
    stop_signal: signal.Signals = signal.SIGTERM
    metrics_path: str | None = None
    """Where Prometheus scrapes it, on `port`; None: it has no metrics of its own."""

    @abstractmethod
    def missing(self) -> Missing | None:
        """What is not installed, or None when it can be started. Quick: no process is started."""

    @abstractmethod
    def version(self) -> str:
        """Its version as it says, without its name, e.g. "7.0.15"; only called when not missing."""

    def waits_for(self, ground: Ground) -> str | None:
        """What the home lacks for it, in one line that says what to run; None: nothing."""
        del ground
        return None

    def prepare(self, ground: Ground) -> None:
        """Make folders and configuration in `ground.folder`; needed engines are healthy by now."""
        del ground

    @abstractmethod
    def processes(self, ground: Ground) -> tuple[Process, ...]:
        """Its server processes, started in this order without waiting in between."""

    @abstractmethod
    def check(self, ground: Ground) -> None:
        """Return when all of it is healthy, within about two seconds.

        Raises:
            EngineUnavailableError: it is not, or not yet; the text says what does not answer.
        """

    def after_start(self, ground: Ground) -> None:
        """Make what must be inside it (databases, topics); it is healthy."""
        del ground

    def environment(self, ground: Ground) -> dict[str, str]:
        """The MOVIE_MLOPS_ keys, secrets included, with which the house uses this engine."""
        del ground
        return {}


@dataclass(frozen=True, slots=True)
class Status:
    """How an engine is; memory in bytes (PSS: shared pages are shared out), times in seconds."""

    name: str
    title: str
    state: State
    port: int
    version: str = ""
    pids: tuple[int, ...] = ()
    memory_bytes: int = 0
    up_seconds: float | None = None
    """Since its oldest process was started."""
    start_seconds: float | None = None
    """How long its last start took until it was healthy."""
    note: str = ""
    should_run: bool = False
    """Whether it was started and not stopped since."""

    @property
    def is_broken(self) -> bool:
        """Whether it should run and does not, or not well."""
        return self.should_run and self.state not in ("running", "starting")


def clean_environment() -> dict[str, str]:
    """What every engine's processes see, beside what it asks for itself."""
    path = [str(Path(sys.executable).parent), *os.get_exec_path()]
    return {"PATH": os.pathsep.join(path), "HOME": str(Path.home()), "LANG": "C.UTF-8"}
