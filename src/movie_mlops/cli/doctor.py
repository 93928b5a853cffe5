"""`doctor`: is this machine and home ready, and what to do where not."""

import json
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from movie_mlops.settings import Settings

_FREE_BYTES = 2_000_000_000
_Finding = tuple[bool, str]


@click.command()
@click.option("--home", type=click.Path(path_type=Path), help="Folder of data/ and var/.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(home: Path | None, as_json: bool) -> int:
    """Check this machine and home; exit code 1 when something must be done."""
    from movie_mlops.domain.errors import MovieMlopsError
    from movie_mlops.settings import load_settings

    settings = load_settings(home)
    checks: dict[str, Callable[[Settings], _Finding]] = {
        "python": _python,
        "home is writable": _writable,
        "disk": _disk,
        "port": _port,
        "page": _page,
        "data": _data,
        "event log": _event_log,
        "models": _models,
        "engines": _engines,
    }
    findings: dict[str, _Finding] = {}
    for name, check in checks.items():
        try:
            findings[name] = check(settings)
        except (MovieMlopsError, OSError) as error:
            findings[name] = (False, str(error))
    if as_json:
        rows = {name: {"ok": ok, "says": says} for name, (ok, says) in findings.items()}
        click.echo(json.dumps(rows, indent=1))
    else:
        for name, (ok, says) in findings.items():
            click.secho(
                f"{'ok  ' if ok else 'mend'} {name:<18} {says}", fg=None if ok else "yellow"
            )
    return 0 if all(ok for ok, _ in findings.values()) else 1


def _python(settings: "Settings") -> _Finding:
    del settings
    found = ".".join(map(str, sys.version_info[:3]))
    return (3, 11) <= sys.version_info[:2] <= (3, 13), f"{found} (3.11 to 3.13 are tested)"


def _writable(settings: "Settings") -> _Finding:
    probe = settings.home / "var" / ".doctor"
    probe.parent.mkdir(parents=True, exist_ok=True)
    probe.write_text("")
    probe.unlink()
    return True, str(settings.home.absolute())


def _disk(settings: "Settings") -> _Finding:
    free = shutil.disk_usage(settings.home).free
    return free >= _FREE_BYTES, f"{free / 1e9:.0f} GB free; 2 GB are wanted"


def _port(settings: "Settings") -> _Finding:
    with socket.socket() as probe:
        if probe.connect_ex((settings.host, settings.port)):
            return True, f"{settings.port} is free"
    return True, f"{settings.port} answers; if it is not ours, start with PORT=8010"


def _page(settings: "Settings") -> _Finding:
    from movie_mlops.bootstrap import page_folder

    del settings
    if (page_folder() / "index.html").exists():
        return True, "built"
    return False, "not built: install Node 20 or later, then `make up` (the API runs without it)"


def _data(settings: "Settings") -> _Finding:
    from movie_mlops.bootstrap import build_services

    lake = build_services(settings).lake
    if not lake.exists("movies"):
        return False, "no tables yet: `movie-mlops run data_collection`, or `make up`"
    return True, f"{len(lake.read('movies')):,} films in {lake.processed}"


def _event_log(settings: "Settings") -> _Finding:
    from movie_mlops.bootstrap import build_services

    services = build_services(settings)
    try:
        services.log.ping()
        behind = services.log.lag("worker", ("user-events",))["user-events"]
    finally:
        services.close()
    return True, f"answers; {behind} events not in the lake yet"


def _models(settings: "Settings") -> _Finding:
    from movie_mlops.domain.versions import REGISTERED_MODELS
    from movie_mlops.models.bundle import load_bundle
    from movie_mlops.models.manifest import read_manifest

    serving = settings.path(settings.serving_url)
    served = read_manifest(serving)
    champions = {n: c for n in REGISTERED_MODELS if n in served and (c := served[n].champion)}
    if not champions:
        return False, "no champion yet: `movie-mlops run training rollout`, or `make up`"
    for entry in champions.values():
        load_bundle(serving / entry.path, entry.card_sha256)
    return True, ", ".join(f"{n} v{e.version} ({e.algorithm})" for n, e in champions.items())


def _engines(settings: "Settings") -> _Finding:
    from movie_mlops.stack import Stack

    found = Stack(settings.home).status()
    broken = [each for each in found if each.is_broken]
    if broken:
        says = "; ".join(f"{each.name} is {each.state}: {each.note}" for each in broken)
        return False, f"{says} (movie-mlops stack up)"
    running = [each.name for each in found if each.state == "running"]
    absent = [each.name for each in found if each.state == "not installed"]
    ready = [each.name for each in found if each.state in ("stopped", "waiting")]
    groups = {"running": running, "ready for `stack up`": ready, "not installed": absent}
    return True, "; ".join(f"{what}: {', '.join(names)}" for what, names in groups.items() if names)
