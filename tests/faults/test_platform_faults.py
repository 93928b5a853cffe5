"""Faults of the machine below: a taken port, a read-only disk, clocks that jump."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.up_house import environment

from movie_mlops.automation.loop_store import Retraining
from movie_mlops.automation.policies import Policy, decide_retraining
from movie_mlops.domain.versions import MOVIE_RECOMMENDER
from movie_mlops.events.schemas import ModelDriftEvent


def up(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "movie_mlops", "up", "--home", str(home), *arguments]
    return subprocess.run(
        command, env=environment(), capture_output=True, text=True, check=False, timeout=60
    )


def test_74_a_port_that_is_taken_is_named_with_the_way_out(tmp_path: Path) -> None:
    """Fault 74."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ran = up(tmp_path, "--port", port)
    assert ran.returncode == 3
    assert f"port {port} is taken" in ran.stderr
    assert "PORT=" in ran.stderr
    assert "Traceback" not in ran.stderr


@contextmanager
def own_file_system(place: Path) -> Iterator[None]:
    """A small file system mounted there; a skip where nobody may mount."""
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system may be mounted here: it needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def remount(place: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", place], check=True)


def test_75_a_home_that_cannot_be_written_is_said_in_one_sentence(tmp_path: Path) -> None:
    """Fault 75."""
    place = tmp_path / "disk"
    with own_file_system(place):
        remount(place, "ro")
        ran = up(place / "home")
    assert ran.returncode == 1
    assert "Read-only file system" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 1


NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
POLICY = Policy(timedelta(hours=6), 2, 80.0, timedelta(minutes=10))


def decided(*trainings: datetime, at: datetime = NOW) -> str:
    past = [
        Retraining(f"cause-{number}", MOVIE_RECOMMENDER, 0.9, when, f"run-{number}", "succeeded")
        for number, when in enumerate(trainings)
    ]
    event = ModelDriftEvent(MOVIE_RECOMMENDER, "1", 0.9, 0.5, at)
    return decide_retraining(event, past, None, POLICY, NOW).action


def test_76_a_clock_that_was_ahead_stops_no_training_for_good() -> None:
    """Fault 76."""
    assert decided(NOW - timedelta(hours=1)) == "ignore"  # the cool-down, as it should be
    assert decided(NOW + timedelta(days=365)) == "retrain"
    assert decided(NOW + timedelta(days=365), NOW - timedelta(hours=1)) == "ignore"
