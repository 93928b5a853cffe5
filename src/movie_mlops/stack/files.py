"""What the stack remembers in its folder: ports, secrets, records of starts, one lock."""

import fcntl
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from movie_mlops.domain.errors import ConfigurationError
from movie_mlops.stack.base import Ground


@dataclass(frozen=True, slots=True)
class Record:
    """One start of an engine; `start_seconds` is None until it was healthy."""

    version: str
    port: int
    processes: tuple[str, ...]
    started: float
    start_seconds: float | None = None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; empty for none, or for one that was torn."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_text(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file as a whole; nobody but its owner sees it before it has its mode."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
        os.fchmod(stream.fileno(), mode)
    new.replace(path)


class Book:
    """The files of one stack folder. Write only under the `lock`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._secrets = threading.Lock()

    def folder(self, engine: str) -> Path:
        """The folder of an engine, made when it is not there; others may pass, not look."""
        path = self._folder / engine
        for each in (self._folder, path):
            if not each.is_dir():
                each.mkdir(parents=True, exist_ok=True)
                each.chmod(0o711)
        return path

    def ports(self) -> dict[str, int]:
        """The ports that were chosen once, by name."""
        found = read_json(self._folder / "ports.json")
        return {name: port for name, port in found.items() if isinstance(port, int)}

    def choose_ports(self, ports: Mapping[str, int]) -> None:
        """Remember these too."""
        if ports:
            text = json.dumps({**self.ports(), **ports}, indent=1)
            write_text(self._folder / "ports.json", text)

    def kafka_home(self) -> Path | None:
        """Where Apache Kafka lay when an `up` was told so."""
        found = read_json(self._folder / "places.json").get("kafka")
        return Path(found) if isinstance(found, str) else None

    def remember_kafka_home(self, home: Path) -> None:
        """For commands that are not told."""
        write_text(self._folder / "places.json", json.dumps({"kafka": str(home)}))

    def secret(self, name: str) -> str:
        """A generated secret; the same for ever.

        Raises:
            ConfigurationError: the file of secrets is damaged; new ones would fit nothing.
        """
        with self._secrets:
            path = self._folder / "secrets.json"
            known = read_json(path)
            if path.exists() and not known:
                message = f"{path} is damaged; bring it back from a backup, the engines need it"
                raise ConfigurationError(message)
            if name not in known:
                known[name] = secrets.token_urlsafe(32)
                write_text(path, json.dumps(known, indent=1), 0o600)
            return str(known[name])

    def record(self, engine: str) -> Record | None:
        """The last start that was not followed by a `down`."""
        try:
            found = read_json(self._folder / engine / "record.json")
            found["processes"] = tuple(found["processes"])
            return Record(**found)
        except (KeyError, TypeError):
            return None

    def write_record(self, engine: str, record: Record) -> None:
        """Keep it."""
        write_text(self.folder(engine) / "record.json", json.dumps(asdict(record)))

    def forget_record(self, engine: str) -> None:
        """It was stopped on purpose."""
        (self._folder / engine / "record.json").unlink(missing_ok=True)

    def write_target(self, engine: str, ground: Ground, metrics_path: str | None) -> None:
        """Let Prometheus scrape the engine; it watches this folder."""
        if metrics_path is not None:
            labels = {"job": engine, "__metrics_path__": metrics_path}
            target = {"targets": [f"{ground.host}:{ground.port(engine)}"], "labels": labels}
            write_text(self.folder("targets") / f"{engine}.json", json.dumps([target]))

    def forget_target(self, engine: str) -> None:
        """It is stopped: that it does not answer is no fault."""
        (self._folder / "targets" / f"{engine}.json").unlink(missing_ok=True)

    @contextmanager
    def lock(self, waiting: Callable[[str], None]) -> Iterator[int]:
        """Hold the lock of the stack; its descriptor. `waiting` is told who holds it before."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "lock").open("a+") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                stream.seek(0)
                waiting(stream.read(100).strip() or "another process")
                fcntl.flock(stream, fcntl.LOCK_EX)
            stream.truncate(0)
            stream.write(f"process {os.getpid()}, since {time.strftime('%H:%M:%S')}\n")
            stream.flush()
            yield stream.fileno()
