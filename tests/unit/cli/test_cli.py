"""The command line: help, exit codes, what programs read of it."""

import inspect
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import polars as pl
import pytest
from click.testing import CliRunner

from movie_mlops.cli import main as entry
from movie_mlops.cli.main import EXIT_CODES, cli, exit_code
from movie_mlops.data.lake import Lake
from movie_mlops.domain import errors as house
from movie_mlops.orchestration.lock import run_lock, worker_lock, writer_lock
from movie_mlops.orchestration.shapes import SHAPES
from movie_mlops.settings import PREFIX

COMMANDS = cli.list_commands(click.Context(cli))


@dataclass
class Done:
    code: int
    out: str
    err: str


Call = Callable[..., Done]


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> Call:
    """Run the command as the shell would, in this process, in an empty folder."""
    for key in [key for key in os.environ if key.startswith(PREFIX)]:
        monkeypatch.delenv(key)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["movie-mlops", *arguments])
        with pytest.raises(SystemExit) as ended:
            entry.main()
        captured = capfd.readouterr()
        return Done(int(ended.value.code or 0), captured.out, captured.err)

    return run


def test_help_names_every_command_and_every_exit_code() -> None:
    text = CliRunner().invoke(cli, ["--help"]).output
    for name in COMMANDS:
        assert f"  {name} " in text, name
    for code in {0, 2, *EXIT_CODES.values()}:
        assert f"{code} " in text.partition("Exit codes")[2], code


def leaves() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        found.append((name,))
        if isinstance(command, click.Group):
            found += [(name, below) for below in command.commands]
    return found


@pytest.mark.parametrize("path", leaves(), ids=" ".join)
def test_every_command_says_what_it_does_and_every_option_what_it_means(
    path: tuple[str, ...],
) -> None:
    done = CliRunner().invoke(cli, [*path, "--help"], prog_name="movie-mlops")
    assert done.exit_code == 0
    usage, _, rest = done.output.partition("\n\n")
    assert usage.startswith(f"Usage: movie-mlops {' '.join(path)}")
    first = rest.strip().splitlines()[0].strip()
    assert len(first.split()) >= 3, first
    command: click.Command | None = cli
    for name in path:
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), name)
    assert command is not None
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden:
            assert option.help or isinstance(option.type, click.Choice | click.types.IntParamType)


def test_the_help_of_run_names_every_pipeline() -> None:
    text = CliRunner().invoke(cli, ["run", "--help"]).output
    assert all(name in text for name in SHAPES)


def seconds_of(*code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *code], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def test_help_is_instant() -> None:
    """In units of starting Python with click, because machines differ: 0.5 s is about six."""
    unit = min(seconds_of("-c", "import click") for _ in range(3))
    assert min(seconds_of("-m", "movie_mlops", "--help") for _ in range(3)) < 6 * unit


def test_every_error_of_the_house_has_an_exit_code() -> None:
    tree = [
        found
        for _, found in inspect.getmembers(house, inspect.isclass)
        if issubclass(found, house.MovieMlopsError)
    ]
    codes = {found.__name__: exit_code(found("why")) for found in tree}
    assert codes["MovieMlopsError"] == 1
    assert codes["ConfigurationError"] == 3
    assert codes["HomeLockedError"] == 4
    assert codes["LogFullError"] == codes["EngineUnavailableError"] == 5
    assert codes["DataQualityError"] == 6
    assert codes["RateLimitedError"] == codes["SourceFormatError"] == 7
    assert codes["ArtifactCorruptError"] == codes["TrainingDataError"] == 8
    assert codes["SnapshotNotFoundError"] == 9
    assert codes["UnknownPipelineError"] == 10
    assert codes["StepFailedError"] == codes["PipelineError"] == 11
    assert exit_code(KeyboardInterrupt()) == 130
    assert exit_code(RuntimeError()) == 1
    assert set(codes.values()) <= set(EXIT_CODES.values())


def test_a_failed_step_has_the_code_of_its_cause() -> None:
    failed = house.StepFailedError("step")
    failed.__cause__ = house.SourceAuthError("key")
    assert exit_code(failed) == 7


def test_interrupted_is_130(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("movie_mlops.settings.load_settings", interrupted)
    assert call("models", "list").code == 130


def test_wrong_usage_is_2_and_says_what_is_right(call: Call) -> None:
    for arguments in (
        ("no-such-command",),
        ("run", "no_such_pipeline"),
        ("run", "training", "--parameters", "{not json"),
        ("step", "training", "prepare_training_data", "--json", "[1]"),
        ("snapshot", "create", "not a tag"),
        ("models", "promote", "no_such_model", "1"),
    ):
        if arguments[0] == "snapshot":
            Path("data/processed").mkdir(parents=True)
            Path("data/processed/movies.parquet").write_bytes(b"x")
        done = call(*arguments)
        assert done.code == 2, arguments
        assert "Error:" in done.err
        assert "Traceback" not in done.err


def test_an_unknown_setting_is_3_and_named(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + "PROT", "8010")
    done = call("doctor")
    assert done.code == 3
    assert "MOVIE_MLOPS_PROT in the environment" in done.err


def test_a_setting_out_of_range_is_3_and_named(call: Call) -> None:
    Path(".env").write_text("MOVIE_MLOPS_PORT=99999\n")
    done = call("models", "list")
    assert done.code == 3
    assert "MOVIE_MLOPS_PORT" in done.err


def test_tmdb_without_a_key_is_3_and_shows_the_way(call: Call) -> None:
    done = call("run", "data_collection", "--source", "tmdb:")
    assert done.code == 3
    assert "TMDB_API_KEY" in done.err
    assert "tmdb-server" in done.err


def test_a_home_in_use_is_4_and_names_the_process(call: Call) -> None:
    with writer_lock(run_lock(Path()), "a test"):
        done = call("run", "data_collection")
    assert done.code == 4
    assert f"a test (process {os.getpid()})" in done.err


def test_an_unknown_step_is_10_and_lists_the_steps(call: Call) -> None:
    done = call("step", "training", "no_such_step")
    assert done.code == 10
    assert "train_movie_model" in done.err


def test_a_step_that_fails_ends_with_its_cause(call: Call) -> None:
    done = call("run", "data_collection", "--source", "movielens:/nowhere")
    assert done.code in (3, 7)
    assert "/nowhere" in done.err
    assert "Traceback" not in done.err


def test_doctor_tells_programs_what_is_missing(call: Call) -> None:
    done = call("doctor", "--json")
    found = json.loads(done.out)
    assert done.code == 1  # an empty home has work to do
    assert found["python"]["ok"] is True
    assert found["home is writable"]["ok"] is True
    assert found["data"]["ok"] is False
    assert "data_collection" in found["data"]["says"]
    assert found["models"]["ok"] is False
    spoken = call("doctor")
    assert spoken.code == 1
    assert spoken.out.count("mend ") == sum(not each["ok"] for each in found.values())


def test_models_of_an_empty_home(call: Call) -> None:
    done = call("models", "list", "--json")
    assert (done.code, json.loads(done.out)) == (0, [])
    done = call("models", "compare", "movie_predictor", "1", "--metrics", "rmse")
    assert (done.code, json.loads(done.out)) == (0, {"1": {"rmse": None}})
    assert call("models", "promote", "movie_predictor", "1").code == 8
    assert call("models", "rollback", "movie_predictor").code == 8


def test_snapshots_from_create_to_restore(call: Call) -> None:
    assert call("snapshot", "create", "one").code == 9  # nothing to keep yet
    assert "data_collection" in call("snapshot", "list").out
    assert json.loads(call("snapshot", "list", "--json").out) == []
    tables = Lake(Path("data")).processed
    tables.mkdir(parents=True)
    pl.DataFrame({"movie_id": [1]}).write_parquet(tables / "movies.parquet")
    first = (tables / "movies.parquet").read_bytes()
    assert "1 files" in call("snapshot", "create", "one").out
    pl.DataFrame({"movie_id": [1, 2]}).write_parquet(tables / "movies.parquet")
    assert call("snapshot", "create", "two").code == 0
    taken = call("snapshot", "create", "one")
    assert (taken.code, "another state" in taken.err) == (2, True)
    tags = [each["tag"] for each in json.loads(call("snapshot", "list", "--json").out)]
    assert sorted(tags) == ["one", "two"]
    changes = json.loads(call("snapshot", "diff", "one", "two").out)
    assert changes == {"added": [], "removed": [], "changed": ["movies.parquet"]}
    with writer_lock(worker_lock(Path()), "movie-mlops worker"):
        assert call("snapshot", "restore", "one").code == 4
    restored = call("snapshot", "restore", "one")
    assert restored.code == 0
    assert "before-restore-" in restored.out
    assert (tables / "movies.parquet").read_bytes() == first
    assert call("snapshot", "restore", "three").code == 9
    assert call("snapshot", "diff", "one", "three").code == 9
