"""`keys`: API keys with scopes and subjects; the house keeps only their hash."""

import json
import secrets
from hashlib import sha256
from pathlib import Path
from typing import Any

import click

from movie_mlops.domain.errors import ConfigurationError

SETTING = "MOVIE_MLOPS_API_KEYS"
_HOME = click.option("--home", type=click.Path(path_type=Path), help="Folder of data/ and var/.")


@click.group()
def keys() -> None:
    """API keys: create, list, revoke. A running API takes them in at its next start."""


@keys.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(("read", "write", "admin")),
    help="What the key may do; repeat it for more.  [default: read]",
)
@click.option("--subject", help="The only viewer whose data the key sees and writes.")
@_HOME
def create(name: str, scopes: tuple[str, ...], subject: str | None, home: Path | None) -> None:
    """Make a key, print it once, and keep its hash in `<home>/.env`."""
    from movie_mlops.domain.interactions import parse_user_id
    from movie_mlops.settings import load_settings

    settings = load_settings(home)
    if any(key.name == name for key in settings.api_keys):
        message = f"there is a key {name!r} already; `movie-mlops keys revoke {name}` first"
        raise ConfigurationError(message)
    key = secrets.token_urlsafe(32)
    made: dict[str, Any] = {
        "name": name,
        "sha256": sha256(key.encode()).hexdigest(),
        "scopes": list(scopes or ("read",)),
        "subject": None if subject is None else parse_user_id(subject),
    }
    kept = [each.model_dump(mode="json") for each in settings.api_keys]
    path = _write(settings.home, [*kept, made])
    click.echo(key)
    click.echo(f"its hash is in {path}; the key itself is shown only now", err=True)


@keys.command(name="list")
@_HOME
def list_keys(home: Path | None) -> None:
    """The names, scopes and subjects of all keys."""
    from movie_mlops.settings import load_settings

    for key in load_settings(home).api_keys:
        bound = f" only viewer {key.subject}" if key.subject else ""
        click.echo(f"{key.name}: {', '.join(key.scopes)}{bound}")


@keys.command()
@click.argument("name")
@_HOME
def revoke(name: str, home: Path | None) -> None:
    """Forget a key."""
    from movie_mlops.settings import load_settings

    settings = load_settings(home)
    kept = [each.model_dump(mode="json") for each in settings.api_keys if each.name != name]
    if len(kept) == len(settings.api_keys):
        message = f"there is no key {name!r}; `movie-mlops keys list` shows them"
        raise ConfigurationError(message)
    _write(settings.home, kept)
    click.echo(f"{name} is revoked when the API starts again")


def _write(home: Path, kept: list[dict[str, Any]]) -> Path:
    """Put the keys into `<home>/.env`, readable by its owner only.

    Raises:
        ConfigurationError: one of them is none, or the file would be overruled.
    """
    from movie_mlops.settings import load_settings

    text = json.dumps(kept, separators=(",", ":"))
    load_settings(home, api_keys=text)  # a wrong name is told before anything is written
    path = home / ".env"
    before = path.read_text().splitlines() if path.exists() else []
    lines = [line for line in before if not line.startswith(f"{SETTING}=")]
    fresh = path.with_name(".env.new")
    fresh.touch(mode=0o600)
    fresh.write_text("\n".join([*lines, f"{SETTING}='{text}'"]) + "\n")
    fresh.replace(path)
    written = [each.model_dump(mode="json") for each in load_settings(home).api_keys]
    if [key["name"] for key in written] != [key["name"] for key in kept]:
        message = f"{SETTING} in the environment overrules {path}; change it there"
        raise ConfigurationError(message)
    return path
