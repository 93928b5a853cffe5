"""The files of a MovieLens release: formats, safe unpacking, download."""

import gzip
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

import httpx

from movie_mlops.data.crawlers.base import Progress
from movie_mlops.domain.errors import CrawlError, SourceFormatError

LARGEST_BYTES = 20_000_000_000
LARGEST_RATIO = 200  # real archives shrink four- to six-fold; more than this is a bomb
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Layout:
    """One released format; without headers the columns are those of the README, in order."""

    ratings: str
    films: str
    separator: str
    film_separator: str
    headers: bool

    @property
    def files(self) -> tuple[str, ...]:
        """All files that are read; the last one (links) may be missing."""
        return (self.ratings, self.films, *((LINKS,) if self.headers else ()))


LINKS = "links.csv"
LAYOUTS = (
    Layout("ratings.csv", "movies.csv", ",", ",", headers=True),
    Layout("ratings.dat", "movies.dat", "::", "::", headers=False),
    Layout("u.data", "u.item", "\t", "|", headers=False),
)


def layout_of(folder: Path, suffixes: tuple[str, ...] = ("",)) -> Layout:
    """The format of the release in a folder, whose names may end in any of `suffixes`.

    Raises:
        SourceFormatError: no release, or its list of films is missing.
    """
    for layout in LAYOUTS:
        if any((folder / f"{layout.ratings}{suffix}").is_file() for suffix in suffixes):
            if any((folder / f"{layout.films}{suffix}").is_file() for suffix in suffixes):
                return layout
            message = f"{folder} has {layout.ratings} but not {layout.films}"
            raise SourceFormatError(message)
    expected = ", ".join(layout.ratings for layout in LAYOUTS)
    message = f"{folder} is no MovieLens folder: none of {expected}"
    raise SourceFormatError(message)


def unpack_folder(folder: Path, raw: Path, progress: Progress) -> Layout:
    """Copy a release's files, plain or with .gz, into `raw` as plain files.

    Raises:
        SourceFormatError: no release, truncated, or far larger than such a file can be.
    """
    layout = layout_of(folder, ("", ".gz"))
    for name in layout.files:
        for candidate in (folder / name, folder / f"{name}.gz"):
            if candidate.is_file():
                with _opened(candidate) as stream:
                    _copy(stream, candidate, raw / name, progress)
                break
    return layout


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
        yield stream  # type: ignore[misc]


def unpack_zip(archive: Path, raw: Path, progress: Progress) -> Layout:
    """Unpack a release's files; no other entry is unpacked.

    Raises:
        SourceFormatError: truncated, no release, a bomb, or a path that leads out of it.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = {PurePosixPath(entry.filename).name: entry for entry in _safe(opened)}
            for layout in LAYOUTS:
                if layout.ratings in members and layout.films in members:
                    for name in set(layout.files) & set(members):
                        with opened.open(members[name]) as stream:
                            _copy(stream, archive, raw / name, progress)
                    return layout
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        message = f"{archive} is truncated or no zip file: {error}"
        raise SourceFormatError(message) from error
    message = f"{archive} holds no MovieLens release"
    raise SourceFormatError(message)


def _safe(opened: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """All entries, or an error when one has a path out of the archive or they are a bomb."""
    entries = opened.infolist()
    for entry in entries:
        name = entry.orig_filename.replace("\\", "/")
        if name.startswith("/") or ".." in name.split("/") or ":" in name or "\0" in name:
            message = f"{opened.filename} holds the file name {name!r}: refused"
            raise SourceFormatError(message)
    unpacked = sum(entry.file_size for entry in entries)
    packed = max(_CHUNK, sum(entry.compress_size for entry in entries))
    if unpacked > min(LARGEST_BYTES, LARGEST_RATIO * packed):
        message = f"{opened.filename} would unpack to {unpacked} bytes: refused"
        raise SourceFormatError(message)
    return entries


def _copy(stream: IO[bytes], source: Path, target: Path, progress: Progress) -> None:
    """Write beside and swap in; the modification time says what the file came from."""
    origin = source.stat()
    if target.exists() and target.stat().st_mtime_ns == origin.st_mtime_ns:
        return
    most = min(LARGEST_BYTES, LARGEST_RATIO * max(origin.st_size, _CHUNK))
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    done = 0
    try:
        with beside.open("wb") as out:
            while chunk := stream.read(_CHUNK):
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
    """Download an archive unless the server says that the one here is still the same.

    Raises:
        CrawlError: the server cannot be reached or refuses.
    """
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
                for chunk in answer.iter_bytes(_CHUNK):
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
