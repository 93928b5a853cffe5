"""Brings one engine to health: what runs is left alone, what is half started is begun anew."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from movie_mlops.domain.errors import EngineUnavailableError
from movie_mlops.stack import processes
from movie_mlops.stack.base import Engine, Ground
from movie_mlops.stack.files import Book, Record
from movie_mlops.stack.ports import check_free
from movie_mlops.stack.survey import age

_LOOK_SECONDS = 0.1
_SLOWER_SECONDS = 0.5
_PATIENCE_SECONDS = 5.0
"""How long an engine that has run for long may take to answer before it is started again."""


class Starter:
    """Starts engines while the lock of the stack is held; `lock` is its descriptor."""

    def __init__(
        self,
        book: Book,
        lock: int,
        ground: Callable[[str], Ground],
        report: Callable[[str, str], None],
    ) -> None:
        self._book, self._lock, self._ground, self._report = book, lock, ground, report
        self._over = threading.Event()

    def give_up(self) -> None:
        """Let all waits end; what was launched runs on and is found by the next `up`."""
        self._over.set()

    def start(self, engine: Engine) -> None:
        """Return when it is healthy.

        Raises:
            ConfigurationError: a port of it is taken; the text says by whom.
            EngineUnavailableError: it did not become healthy in time, or ended.
        """
        ground = self._ground(engine.name)
        if self._runs(engine, ground):
            return
        folder = ground.folder
        processes.end(folder, engine.stop_signal, engine.stop_seconds)  # what a kill left over
        check_free(engine, ground)
        self._report(engine.name, "starting")
        began = time.monotonic()
        (folder / processes.SETUP_LOG).unlink(missing_ok=True)  # of one that a kill cut short
        engine.prepare(ground)
        wanted = engine.processes(ground)
        names = tuple(process.name for process in wanted)
        record = Record(engine.version(), ground.port(engine.name), names, time.time())
        self._book.write_record(engine.name, record)
        for process in wanted:
            processes.launch(process, folder, self._lock)
        self._wait(engine, ground, names, engine.start_seconds)
        self._finish(engine, ground, record, time.monotonic() - began)
        self._report(engine.name, f"healthy after {time.monotonic() - began:.1f} s")

    def _runs(self, engine: Engine, ground: Ground) -> bool:
        """Whether it runs already; when its start was cut short, it is completed."""
        record = self._book.record(engine.name)
        if record is None:
            return False
        found = processes.look(record.processes, ground.folder, processes.survey())
        alive = [each for each in found if each is not None]
        if not found or len(alive) < len(found):
            return False
        left = engine.start_seconds - max(age(each) for each in alive)
        try:
            self._wait(engine, ground, record.processes, max(left, _PATIENCE_SECONDS))
        except EngineUnavailableError as error:
            self._report(engine.name, f"starting it again: {error}")
            return False
        if record.start_seconds is None:
            self._finish(engine, ground, record, time.time() - record.started)
        self._report(engine.name, "runs already")
        return True

    def _wait(self, engine: Engine, ground: Ground, names: tuple[str, ...], seconds: float) -> None:
        began, said = time.monotonic(), ""
        while True:
            seen = processes.survey()
            found = processes.look(names, ground.folder, seen)
            ended = [name for name, each in zip(names, found, strict=True) if each is None]
            if ended:
                log = ground.folder / f"{ended[0]}.log"
                message = f"{engine.title} ended at once: {processes.tail(log, 3)} (log: {log})"
                raise EngineUnavailableError(message)
            try:
                return engine.check(ground)
            except EngineUnavailableError as error:
                said = str(error)
            waited = time.monotonic() - began
            if self._over.is_set() or waited > seconds:
                logs = ", ".join(str(ground.folder / f"{name}.log") for name in names)
                message = f"{engine.title} is not healthy after {waited:.0f} s: {said} ({logs})"
                raise EngineUnavailableError(message)
            self._over.wait(_LOOK_SECONDS if waited < _PATIENCE_SECONDS else _SLOWER_SECONDS)

    def _finish(self, engine: Engine, ground: Ground, record: Record, seconds: float) -> None:
        engine.after_start(ground)
        self._book.write_target(engine.name, ground, engine.metrics_path)
        self._book.write_record(engine.name, replace(record, start_seconds=round(seconds, 2)))
