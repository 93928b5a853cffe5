"""Which home and source `up` works on, and the key that it makes there."""

import secrets
from pathlib import Path

import click

from movie_mlops.domain.errors import ConfigurationError

SOURCES = ("sample", "movielens", "tmdb", "imdb")
DEFAULT_RELEASE = "ml-latest-small"
_KEY = "MOVIE_MLOPS_ADMIN_API_KEY"


def choose_source_url(home: Path | None, source: str | None, data: str | None) -> str:
    """The source given, else the settings' own; paths are made absolute."""
    from movie_mlops.settings import load_settings

    present = load_settings(home).source_url
    if source is None:
        source = present.partition(":")[0]
    if data is None and present.startswith(f"{source}:"):
        return present
    if data is None and source == "movielens":
        data = DEFAULT_RELEASE
    if data and Path(data).exists():
        data = str(Path(data).absolute())
    return f"{source}:{data or ''}"


def choose_home(home: Path | None, source: str) -> Path:
    """The home given, or `.` when it is new or of this source, else `homes/<source>`.

    Raises:
        ConfigurationError: the home given holds another source.
    """
    from movie_mlops.settings import load_settings

    if home is None:
        home = load_settings().home
        if source_of(home) not in (None, source):
            home = home / "homes" / source
            click.echo(f"this folder holds another source; using {home}/ for {source}")
    found = source_of(home)
    if found not in (None, source):
        message = f"{home} holds data of the source {found}, not {source}; choose another HOME_DIR"
        raise ConfigurationError(message)
    home.mkdir(parents=True, exist_ok=True)
    return home.absolute()


def source_of(home: Path) -> str | None:
    """The source whose films the home holds; None while it holds none."""
    path = home / "data" / "source"
    has_films = (home / "data" / "processed" / "movies.parquet").exists()
    return path.read_text().strip() if has_films and path.exists() else None


def record_source(home: Path, source: str) -> None:
    """Note whose films the home holds from now on."""
    (home / "data").mkdir(parents=True, exist_ok=True)
    (home / "data" / "source").write_text(source + "\n")


def make_admin_key(home: Path) -> None:
    """Put a generated admin key into `<home>/.env` once, readable by its owner only."""
    path = home / ".env"
    text = path.read_text() if path.exists() else ""
    if any(line.startswith(f"{_KEY}=") for line in text.splitlines()):
        return
    path.touch(mode=0o600)
    path.chmod(0o600)
    with path.open("a") as stream:
        stream.write(f"{_KEY}={secrets.token_urlsafe(32)}\n")
    click.echo(f"admin key made: {_KEY} in {path}")
