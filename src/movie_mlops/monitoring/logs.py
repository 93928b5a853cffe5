"""One JSON object per line: the log of all processes and the buffered access log."""

import logging
import sys
import threading
from datetime import UTC, datetime
from io import RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

if TYPE_CHECKING:
    from typing_extensions import Buffer

_ENCODE = msgspec.json.Encoder(enc_hook=str).encode
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


class JsonFormatter(logging.Formatter):
    """Time, level, logger, message, traceback, and whatever `extra=` held."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of JSON."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return _ENCODE(line).decode()


def configure_logging(level: str = "INFO") -> None:
    """Send every logger of this process to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("httpx", "apscheduler"):  # they tell of every call
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.getLogger("uvicorn.access").disabled = True


class RotatingFile(RawIOBase):
    """A file that moves to `.1` (over the one before) when it has reached `max_bytes`."""

    def __init__(self, path: Path, max_bytes: int = 50_000_000) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._max_bytes = path, max_bytes
        self._file = path.open("ab")

    def write(self, content: "Buffer") -> int:
        """Append; whole lines stay in one file when written at once."""
        if self._file.tell() >= self._max_bytes:
            self._file.close()
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            self._file = self._path.open("ab")
        return self._file.write(content)

    def flush(self) -> None:
        """Hand everything to the kernel."""
        if not self._file.closed:
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


class AccessLog:
    """Collects lines and writes them every `flush_seconds`; a kill loses at most that."""

    def __init__(self, stream: BinaryIO | RotatingFile, flush_seconds: float = 0.25) -> None:
        self._stream = stream
        self._lines: list[bytes] = []
        self._flush_seconds = flush_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Queue one line of JSON, without its end."""
        self._lines.append(line)

    def close(self) -> None:
        """Write what is left and close the file."""
        self._stop.set()
        self._thread.join()
        self._stream.close()

    def _run(self) -> None:
        while not self._stop.wait(self._flush_seconds):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        lines = self._lines[:]
        del self._lines[: len(lines)]  # a line that comes in between stays for the next time
        if lines:
            self._stream.write(b"\n".join(lines) + b"\n")
            self._stream.flush()
