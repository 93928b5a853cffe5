"""Files of a source: downloaded when newer, unpacked beside, bounded, swapped in whole."""

import gzip
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from movie_mlops.data.crawlers.base import Progress
from movie_mlops.domain.errors import CrawlError, SourceFormatError

LARGEST_BYTES = 20_000_000_000
LARGEST_RATIO = 200  # real archives shrink four- to six-fold; more than this is a bomb
CHUNK = 1 << 20


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The file's content, unpacked when its name ends in .gz."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
        yield stream  # type: ignore[misc]


def copy_whole(stream: IO[bytes], source: Path, target: Path, progress: Progress) -> None:
    """Write beside and swap in; the modification time says what the file came from.

    Raises:
        SourceFormatError: truncated, damaged, or far larger than such a file can be.
    """
    origin = source.stat()
    if target.exists() and target.stat().st_mtime_ns == origin.st_mtime_ns:
        return
    most = min(LARGEST_BYTES, LARGEST_RATIO * max(origin.st_size, CHUNK))
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    done = 0
    try:
        with beside.open("wb") as out:
            while chunk := stream.read(CHUNK):
                done += len(chunk)
                if done > most:
                    message = f"{source} unpacks to more than {most} bytes: refused"
                    raise SourceFormatError(message)
                out.write(chunk)
                progress(f"unpacking {target.name}", done, None)
        shutil.copystat(source, beside)
        beside.chmod(0o644)  # what it came from may be read-only
        beside.replace(target)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        message = f"{source} is truncated or damaged: {error}"
        raise SourceFormatError(message) from error
    finally:
        beside.unlink(missing_ok=True)


def download(url: str, target: Path, progress: Progress) -> Path:
    """Download a file unless the server says that the one here is still the same.

    Raises:
        CrawlError: the server cannot be reached or refuses.
    """
    import httpx  # noqa: PLC0415 (it loads a command line of its own: not in every process)

    beside = target.with_name(f".{target.name}.{os.getpid()}")
    mark = target.with_name(f"{target.name}.etag")
    headers = {"If-None-Match": mark.read_text()} if mark.exists() and target.exists() else {}
    try:
        with httpx.stream(
            "GET", url, headers=headers, timeout=60.0, follow_redirects=True
        ) as answer:
            if answer.status_code == httpx.codes.NOT_MODIFIED:
                return target
            answer.raise_for_status()
            total = int(answer.headers.get("content-length", 0)) or None
            with beside.open("wb") as out:
                for chunk in answer.iter_bytes(CHUNK):
                    out.write(chunk)
                    progress(f"downloading {target.name}", out.tell(), total)
        beside.replace(target)
        mark.write_text(answer.headers.get("etag", ""))
    except httpx.HTTPError as error:
        message = f"{url} cannot be downloaded: {error}"
        raise CrawlError(message) from error
    finally:
        beside.unlink(missing_ok=True)
    return target
