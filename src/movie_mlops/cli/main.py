"""The command `movie-mlops`: commands load when they are called, so that help is instant."""

import errno
import sys
from importlib import import_module
from typing import Any, NoReturn

import click

from movie_mlops.domain import errors

EXIT_CODES: dict[type[BaseException], int] = {
    errors.ConfigurationError: 3,
    errors.HomeLockedError: 4,
    errors.EngineUnavailableError: 5,
    errors.DataQualityError: 6,
    errors.CrawlError: 7,
    errors.ModelError: 8,
    errors.SnapshotNotFoundError: 9,
    errors.UnknownPipelineError: 10,
    errors.PipelineError: 11,
    errors.MovieMlopsError: 1,
    KeyboardInterrupt: 130,
}
"""The one table of exit codes; the first class that fits counts. 0: done, 2: wrong usage."""
_DISK_ERRORS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT}
"""What the machine refuses: said in a sentence, as our own errors are."""

_COMMANDS = {
    "up": ("up:up", "Everything: data, model, API and page; stays until Ctrl-C."),
    "run": ("run:run", "Run pipelines here and print a board of steps, times and quality."),
    "step": ("run:step", "Run one step of a pipeline; prints one line of JSON."),
    "api": ("servers:api", "The HTTP API alone."),
    "worker": ("servers:worker", "Events, schedules, features and registry, without the API."),
    "torch": ("torch_server:torch_server", "The PyTorch API on :8001, beside the other."),
    "lake": ("lake:lake", "The tables in an object store: bring the working copy up to date."),
    "quarantine": ("quarantine:quarantine", "Rows that were refused: list, replay."),
    "snapshot": ("snapshot:snapshot", "Data snapshots: create, list, diff, restore."),
    "models": (
        "models:models",
        "Registered models: list, compare, promote, roll back, build again.",
    ),
    "trace": ("trace:trace", "Where an answer came from: model, data, code, history."),
    "users": ("users:users", "The right to be forgotten: erase one viewer everywhere."),
    "evaluate": ("evaluate:evaluate", "Measure every algorithm beside popularity."),
    "tune": ("tune:tune", "Search for better hyperparameters of one algorithm."),
    "events": ("events:events", "The event log: show, tail, lag, replay dead letters."),
    "loop": ("loop:loop", "The closed loop: its history; let it go on after it paged."),
    "drift": ("drift:drift", "Has what people do moved away from what the champion learnt?"),
    "quality": ("quality:quality", "What viewers did with each model version's lists."),
    "keys": ("keys:keys", "API keys with scopes and subjects: create, list, revoke."),
    "stack": ("stack:stack", "Real engines on loopback: start, stop, status, logs, env."),
    "tmdb-server": ("tmdb_server:tmdb_server", "A local TMDB-compatible server of the sample."),
    "demo": ("demo:demo", "The whole story: click, drift, a better model; two bad ones stay out."),
    "doctor": ("doctor:doctor", "Check this machine and home; say what to do."),
}

_HELP = """Movie recommendations and rating predictions with their whole life cycle.

\b
First steps
  movie-mlops up                               a page with recommendations on :8000
  movie-mlops up --source movielens --data F   the same on your MovieLens folder
  movie-mlops evaluate --data F                how good is each algorithm, and beside what
  movie-mlops models list                      what was trained, on which snapshot
  movie-mlops doctor                           is this machine ready

\b
Exit codes
  0 done · 1 failed · 2 wrong usage · 3 setting · 4 home in use · 5 engine not there
  6 data refused · 7 source failed · 8 model · 9 no such snapshot · 10 no such pipeline
  11 step failed · 130 interrupted
"""


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table, which is the order of a story."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(f"movie_mlops.cli.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table as it stands, without importing a command."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, short) for name, (_, short) in _COMMANDS.items()])


@click.group(cls=_LazyGroup, help=_HELP)
@click.version_option(package_name="movie-mlops")
def cli() -> None:
    """Entry point; see the help above."""


def exit_code(error: BaseException) -> int:
    """The exit code of an error; a failed step has the code of its cause."""
    if isinstance(error, errors.StepFailedError) and error.__cause__ is not None:
        return exit_code(error.__cause__)
    return next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), 1)


def main() -> NoReturn:
    """Run the command line; an error of the house is one sentence and an exit code."""
    try:
        result: Any = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(EXIT_CODES[KeyboardInterrupt])
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except errors.MovieMlopsError as error:
        click.secho(f"movie-mlops: {error}", err=True, fg="red")
        sys.exit(exit_code(error))
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        click.secho(f"movie-mlops: {error.strerror}: {error.filename}", err=True, fg="red")
        sys.exit(EXIT_CODES[errors.MovieMlopsError])
    sys.exit(result if isinstance(result, int) else 0)
