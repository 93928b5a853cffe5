"""The files of a MovieLens release: its formats, found and safely unpacked."""

import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from movie_mlops.data.crawlers import archives
from movie_mlops.data.crawlers.archives import copy_whole, opened
from movie_mlops.data.crawlers.base import Progress
from movie_mlops.domain.errors import SourceFormatError


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
                with opened(candidate) as stream:
                    copy_whole(stream, candidate, raw / name, progress)
                break
    return layout


def unpack_zip(archive: Path, raw: Path, progress: Progress) -> Layout:
    """Unpack a release's files; no other entry is unpacked.

    Raises:
        SourceFormatError: truncated, no release, a bomb, or a path that leads out of it.
    """
    try:
        with zipfile.ZipFile(archive) as release:
            members = {PurePosixPath(entry.filename).name: entry for entry in _safe(release)}
            for layout in LAYOUTS:
                if layout.ratings in members and layout.films in members:
                    for name in set(layout.files) & set(members):
                        with release.open(members[name]) as stream:
                            copy_whole(stream, archive, raw / name, progress)
                    return layout
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        message = f"{archive} is truncated or no zip file: {error}"
        raise SourceFormatError(message) from error
    message = f"{archive} holds no MovieLens release"
    raise SourceFormatError(message)


def _safe(release: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """All entries, or an error when one has a path out of the archive or they are a bomb."""
    entries = release.infolist()
    for entry in entries:
        name = entry.orig_filename.replace("\\", "/")
        if name.startswith("/") or ".." in name.split("/") or ":" in name or "\0" in name:
            message = f"{release.filename} holds the file name {name!r}: refused"
            raise SourceFormatError(message)
    unpacked = sum(entry.file_size for entry in entries)
    packed = max(archives.CHUNK, sum(entry.compress_size for entry in entries))
    if unpacked > min(archives.LARGEST_BYTES, archives.LARGEST_RATIO * packed):
        message = f"{release.filename} would unpack to {unpacked} bytes: refused"
        raise SourceFormatError(message)
    return entries
