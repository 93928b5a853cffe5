"""Starts, watches and stops the engines of one home."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from movie_mlops.domain.errors import ConfigurationError, EngineUnavailableError
from movie_mlops.settings import PREFIX
from movie_mlops.stack import order, ports, processes
from movie_mlops.stack.base import Engine, Ground, Status
from movie_mlops.stack.engines import all_engines
from movie_mlops.stack.files import Book
from movie_mlops.stack.start import Starter
from movie_mlops.stack.status import status_of

Report = Callable[[str, str], None]
"""Is told the name of an engine and what happens with it, from several threads."""


def _silent(name: str, text: str) -> None:
    del name, text


class Stack:
    """The engines of one home; all that it knows lies in `<home>/var/stack`.

    It starts engines as detached processes, which go on when this object and its process end, and
    touches only processes that a stack of this home started. `ports` (of engines, or of their
    `more_ports`) and `kafka_home` are remembered by `up`. `kafka_home` is where Apache Kafka
    lies; None: where it lay the last time, else the usual places are looked at.

    Raises:
        ConfigurationError: no such port name, a number that is none, or one given twice.
    """

    def __init__(
        self,
        home: Path,
        ports: Mapping[str, int] | None = None,
        host: str = "127.0.0.1",
        kafka_home: Path | None = None,
    ) -> None:
        self.home, self._host = home.resolve(), host
        self._folder = self.home / "var" / "stack"
        self._book = Book(self._folder)
        self._kafka_home = kafka_home.resolve() if kafka_home else self._book.kafka_home()
        self._engines = {engine.name: engine for engine in all_engines(self._kafka_home)}
        self._needs = {engine.name: engine.needs for engine in self.engines}
        self._chosen = dict(ports or {})
        self._check_ports()
        self._aims: frozenset[str] = frozenset()

    @property
    def engines(self) -> tuple[Engine, ...]:
        """All that there are, installed or not."""
        return tuple(self._engines.values())

    def up(self, names: Sequence[str] = (), report: Report = _silent) -> list[Status]:
        """Start these engines and what they need; none named: all that are installed.

        What runs and is healthy is left alone; what ended or was half started is started again.
        Engines start side by side where none needs another. Returns the status of all engines.

        Raises:
            ConfigurationError: no such engine, or a port is taken.
            EngineUnavailableError: an engine is not installed or did not become healthy; the
                others were started all the same.
        """
        self._known(names)
        with self._book.lock(partial(_waits, report)) as lock:
            self._remember()
            aims = self._named(names) if names else self._startable(report)
            self._aims = frozenset(aims)
            starter = Starter(self._book, lock, self.ground, report)
            order.side_by_side(
                aims,
                self._needs,
                lambda name: starter.start(self._engines[name]),
                starter.give_up,
            )
        return self.status()

    def down(self, names: Sequence[str] = (), report: Report = _silent) -> None:
        """Stop these engines and those that need them, these first; none named: all.

        Raises:
            ConfigurationError: no such engine.
            EngineUnavailableError: a process does not end, not even by SIGKILL.
        """
        self._known(names)
        needed_by = order.turned(self._needs)
        aims = order.reached(names or self._engines, needed_by)
        with self._book.lock(partial(_waits, report)):
            order.side_by_side(aims, needed_by, partial(self._stop, report), lambda: None)

    def status(self) -> list[Status]:
        """How every engine is, asked side by side; takes some two seconds at most."""
        seen = processes.survey()

        def ask(engine: Engine) -> Status:
            record = self._book.record(engine.name)
            return status_of(engine, self._view(engine.name), record, seen)

        with ThreadPoolExecutor(len(self._engines)) as pool:
            return list(pool.map(ask, self.engines))

    def environment(self) -> dict[str, str]:
        """The MOVIE_MLOPS_ keys, secrets included, with which the house uses what runs now."""
        return self._environment(self._running())

    def logs(self, names: Sequence[str] = ()) -> dict[str, Path]:
        """The log of every process of these engines that has one, by `engine/process`.

        Raises:
            ConfigurationError: no such engine.
        """
        self._known(names)
        return {
            f"{engine}/{path.stem}": path
            for engine in names or self._engines
            for path in sorted((self._folder / engine).glob("*.log"))
        }

    def missing_packages(self, names: Sequence[str] = ()) -> list[str]:
        """Debian packages that these engines and what they need lack; none named: all engines.

        Raises:
            ConfigurationError: no such engine.
        """
        self._known(names)
        aims = order.reached(names or self._engines, self._needs)
        lacks = (self._engines[name].missing() for name in aims)
        return sorted({package for lack in lacks if lack for package in lack.packages})

    def ground(self, name: str) -> Ground:
        """What an engine stands on; its folder is made."""
        self._book.folder(name)
        return self._view(name)

    def _view(self, name: str) -> Ground:
        return Ground(
            self._folder / name,
            self.home,
            self._host,
            {**ports.default_ports(self.engines), **self._book.ports()},
            self._book.secret,
            partial(self._house, name),
        )

    def _house(self, asker: str) -> dict[str, str]:
        others = (self._running() | self._aims) - {asker}
        return {f"{PREFIX}HOME": str(self.home), **self._environment(others)}

    def _environment(self, names: frozenset[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for engine in self.engines:
            if engine.name in names:
                found |= engine.environment(self._view(engine.name))
        return found

    def _running(self) -> frozenset[str]:
        seen, running = processes.survey(), set()
        for name in self._engines:
            record = self._book.record(name)
            found = processes.look(record.processes, self._folder / name, seen) if record else ()
            if found and all(found):
                running.add(name)
        return frozenset(running)

    def _named(self, names: Sequence[str]) -> set[str]:
        aims = order.reached(names, self._needs)
        for name in aims:
            if lack := self._lack(name):
                message = f"{self._engines[name].title} cannot start: {lack}"
                raise EngineUnavailableError(message)
        return aims

    def _startable(self, report: Report) -> set[str]:
        aims: set[str] = set()
        for name in order.sorted_names(self._needs):
            absent = [need for need in self._needs[name] if need not in aims]
            lack = f"it needs {', '.join(absent)}" if absent else ""
            if lack := self._lack(name) or lack:
                report(name, f"left out: {lack}")
            else:
                aims.add(name)
        return aims

    def _lack(self, name: str) -> str:
        engine = self._engines[name]
        missing = engine.missing()
        return missing.text if missing else engine.waits_for(self._view(name)) or ""

    def _stop(self, report: Report, name: str) -> None:
        engine, folder = self._engines[name], self._folder / name
        if not folder.is_dir():
            return
        had = processes.survey().family(processes.notes(folder), folder)
        self._book.forget_target(name)
        if had:
            report(name, "stopping")
        processes.end(folder, engine.stop_signal, engine.stop_seconds)
        self._book.forget_record(name)
        if had:
            report(name, "stopped")

    def _known(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self._engines:
                message = f"no engine {name[:50]!r}; there are {', '.join(self._engines)}"
                raise ConfigurationError(message)

    def _check_ports(self) -> None:
        defaults = ports.default_ports(self.engines)
        ports.check_choice(defaults, self._chosen)
        ports.check_distinct({**defaults, **self._book.ports(), **self._chosen})

    def _remember(self) -> None:
        known = {**ports.default_ports(self.engines), **self._book.ports()}
        changed = {name: port for name, port in self._chosen.items() if known[name] != port}
        for name in self._running():
            engine = self._engines[name]
            if changed.keys() & {name, *engine.more_ports}:
                message = (
                    f"{engine.title} runs on port {known[name]}; before it gets another: "
                    f"movie-mlops stack down {name}"
                )
                raise ConfigurationError(message)
        self._book.choose_ports(changed)
        if self._kafka_home is not None:
            self._book.remember_kafka_home(self._kafka_home)


def free_ports() -> dict[str, int]:
    """A free port of loopback by name for all ports of the stack: two stacks side by side."""
    return ports.free_ports(all_engines(None))


def _waits(report: Report, who: str) -> None:
    report("stack", f"waiting for another command ({who})")
