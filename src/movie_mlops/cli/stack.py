"""`stack`: the real engines on this machine: start, stop, look, read their logs, use them."""

import json
import shlex
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from movie_mlops.stack import Stack, Status

_HOME = click.option("--home", type=click.Path(path_type=Path), help="Folder of data/ and var/.")
_NAMES = click.argument("names", nargs=-1, metavar="[ENGINE]...")
_KAFKA_HOME = click.option(
    "--kafka-home",
    envvar="KAFKA_HOME",
    type=click.Path(path_type=Path),
    help="Where Apache Kafka lies; `up` remembers it.  [environment: KAFKA_HOME]",
)
_LOOK_SECONDS = 0.3
_COLOURS = {"running": "green", "unhealthy": "red", "foreign": "red"}


_HELP = """Real engines on loopback, without Docker.

\b
movie-mlops stack up --install      all of them; missing Debian packages by apt
movie-mlops stack up redis kafka    only these and what they need
eval "$(movie-mlops stack env)"     this shell's house uses what runs
movie-mlops stack down              stop them; their data stays in var/stack/
"""


@click.group(help=_HELP)
def stack() -> None:
    """See the help above."""


def _open(
    home: Path | None, ports: "dict[str, int] | None" = None, kafka_home: Path | None = None
) -> "Stack":
    from movie_mlops.settings import load_settings
    from movie_mlops.stack import Stack

    return Stack(load_settings(home).home, ports, kafka_home=kafka_home)


def _port(_ctx: click.Context, _param: click.Parameter, given: tuple[str, ...]) -> dict[str, int]:
    ports = {}
    for text in given:
        name, _, number = text.partition("=")
        if not number.isdecimal():
            message = f"{text!r}: write it as ENGINE=NUMBER, e.g. redis=6380"
            raise click.BadParameter(message)
        ports[name] = int(number)
    return ports


@stack.command()
@_NAMES
@_HOME
@_KAFKA_HOME
@click.option(
    "--port",
    "ports",
    multiple=True,
    callback=_port,
    metavar="ENGINE=NUMBER",
    help="Another port; it is remembered. Several times.",
)
@click.option("--install", "may_install", is_flag=True, help="Install what is missing by apt.")
def up(
    names: tuple[str, ...],
    home: Path | None,
    kafka_home: Path | None,
    ports: dict[str, int],
    may_install: bool,
) -> None:
    """Start engines and what they need; none named: all that are installed.

    They run on when this command ends. What runs already is left alone.
    """
    from movie_mlops.cli.homes import make_admin_key

    opened = _open(home, ports, kafka_home)
    if may_install:
        _install(opened, names)
    opened.home.mkdir(parents=True, exist_ok=True)
    make_admin_key(opened.home)  # Alertmanager shows it to the API
    width = max(len(engine.name) for engine in opened.engines)
    began = time.monotonic()

    def report(name: str, text: str) -> None:
        click.echo(f"{time.monotonic() - began:6.1f} s  {name:<{width}}  {text}")

    try:
        opened.up(names, report)
    finally:
        _show(opened.status())


def _install(opened: "Stack", names: tuple[str, ...]) -> None:
    from movie_mlops.stack.install import install, install_line

    packages = opened.missing_packages(names)
    if packages:
        click.echo(install_line(packages))
        install(packages)


@stack.command("install")
@_NAMES
@_HOME
@_KAFKA_HOME
def install_only(names: tuple[str, ...], home: Path | None, kafka_home: Path | None) -> None:
    """Install what engines lack by apt, and start nothing; none named: all that there are."""
    _install(_open(home, kafka_home=kafka_home), names)


@stack.command()
@_NAMES
@_HOME
def down(names: tuple[str, ...], home: Path | None) -> None:
    """Stop engines and those that need them; none named: all. Data and ports are kept."""
    _open(home).down(names, lambda name, text: click.echo(f"{name}: {text}"))


@stack.command()
@_HOME
@_KAFKA_HOME
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(home: Path | None, kafka_home: Path | None, as_json: bool) -> int:
    """How every engine is; exit code 1 when one that should run does not."""
    from dataclasses import asdict

    found = _open(home, kafka_home=kafka_home).status()
    if as_json:
        click.echo(json.dumps([asdict(each) for each in found], indent=1))
    else:
        _show(found)
    return int(any(each.is_broken for each in found))


def _show(found: "list[Status]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("engine", "state", "version", "port", "memory", "since", "started in", box=None)
    for each in found:
        colour = _COLOURS.get(each.state, "dim")
        table.add_row(
            each.name,
            f"[{colour}]{each.state}[/]",
            each.version,
            str(each.port),
            f"{each.memory_bytes / 2**20:,.0f} MiB" if each.pids else "",
            "" if each.up_seconds is None else _duration(each.up_seconds),
            "" if each.start_seconds is None else f"{each.start_seconds:.1f} s",
        )
    Console().print(table)
    total = sum(each.memory_bytes for each in found)
    click.echo(f"memory of all: {total / 2**20:,.0f} MiB")
    for each in found:
        if each.note:
            click.echo(f"{each.name}: {each.note}")


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


@stack.command()
@_NAMES
@_HOME
@click.option("-n", "--lines", default=20, show_default=True, help="Latest lines of each log.")
@click.option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C.")
def logs(names: tuple[str, ...], home: Path | None, lines: int, follow: bool) -> None:
    """The latest lines of the engines' logs, each with engine/process before it."""
    found = _open(home).logs(names)
    reached = {}
    for name, path in found.items():
        with path.open(errors="replace") as stream:
            for line in deque(stream, lines):
                click.echo(f"{name}  {line.rstrip()}")
            reached[name] = stream.tell()
    while follow:
        time.sleep(_LOOK_SECONDS)
        for name, path in found.items():
            reached[name] = _follow(name, path, reached[name])


def _follow(name: str, path: Path, reached: int) -> int:
    """Print what was added since; a log that was begun anew is read from its start."""
    if not path.exists() or path.stat().st_size == reached:
        return reached
    with path.open(errors="replace") as stream:
        stream.seek(reached if path.stat().st_size > reached else 0)
        for line in stream:
            click.echo(f"{name}  {line.rstrip()}")
        return stream.tell()


@stack.command()
@_HOME
def env(home: Path | None) -> None:
    """Print `export KEY='value'` lines for what runs now; passwords included.

    `eval "$(movie-mlops stack env)"` makes the house of this shell use these engines. What is
    printed holds secrets: put it into no log.
    """
    for key, value in _open(home).environment().items():
        click.echo(f"export {key}={shlex.quote(value)}")
