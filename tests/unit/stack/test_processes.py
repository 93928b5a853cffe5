"""Processes of the stack: known by pid and start time, by descent, by their log; ended with all."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from movie_mlops.domain.errors import EngineUnavailableError
from movie_mlops.stack.base import Ground, Process
from movie_mlops.stack.processes import end, holder, is_free, launch, look, notes, run_once, survey
from movie_mlops.stack.survey import Identity, Survey, age, memory, read_identity

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); "


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "sleeper"
    folder.mkdir()
    return folder


def start(folder: Path, *command: str) -> Identity:
    with (folder / "lock").open("w") as lock:
        launch(Process("server", command), folder, lock.fileno())
    [found] = look(("server",), folder, survey())
    assert found is not None
    return found


def family_of(folder: Path, count: int) -> tuple[Identity, ...]:
    deadline = time.monotonic() + 20
    while len(found := survey().family(notes(folder), folder)) != count:
        assert time.monotonic() < deadline, found
        time.sleep(0.01)
    return found


@pytest.mark.parametrize("torn", ["", "abc", "boot 1", "boot one 2", "boot 1 2 3"])
def test_a_torn_note_is_none(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "server.pid"
    assert read_identity(path) is None
    path.write_text(torn)
    assert read_identity(path) is None


def test_a_reused_pid_is_somebody_else(folder: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        seen = survey()
        assert seen.family((), folder) == ()
        ticks = int(Path(f"/proc/{stranger.pid}/stat").read_text().rpartition(") ")[2].split()[19])
        me = Identity(seen.boot, stranger.pid, ticks)
        assert seen.is_alive(me)
        for other in (
            Identity(seen.boot, stranger.pid, ticks - 1),
            Identity("another boot", stranger.pid, ticks),
        ):
            assert not seen.is_alive(other)
            (folder / "server.pid").write_text(f"{other.boot} {other.pid} {other.ticks}\n")
            assert look(("server",), folder, seen) == (None,)
            end(folder, signal.SIGTERM, 1.0)
            assert stranger.poll() is None
        stranger.kill()


def test_all_that_a_process_began_ends_with_it(folder: Path) -> None:
    child = "import subprocess, time; subprocess.Popen(['sleep', '60']); time.sleep(60)"
    leader = start(folder, sys.executable, "-c", child)
    family = family_of(folder, 2)
    assert leader in family
    assert memory(tuple(each.pid for each in family)) > 100_000
    assert 0 <= age(leader) < 60
    end(folder, signal.SIGTERM, 10.0)
    assert not any(survey().is_alive(each) for each in family)
    assert notes(folder) == ()


def test_an_orphan_is_known_by_its_log_and_ended(folder: Path) -> None:
    child = "import subprocess, time; subprocess.Popen(['sleep', '60'], start_new_session=True); "
    leader = start(folder, sys.executable, "-c", child + "time.sleep(60)")
    family = family_of(folder, 2)
    os.kill(leader.pid, signal.SIGKILL)
    assert family_of(folder, 1) == tuple(each for each in family if each != leader)
    end(folder, signal.SIGTERM, 10.0)
    assert family_of(folder, 0) == ()


def test_what_does_not_listen_is_killed(folder: Path) -> None:
    leader = start(folder, sys.executable, "-c", DEAF + "time.sleep(60)")
    while not (folder / "server.log").stat().st_size:
        time.sleep(0.01)
    began = time.monotonic()
    end(folder, signal.SIGTERM, 0.3)
    assert time.monotonic() - began >= 0.3
    assert not survey().is_alive(leader)


def test_a_note_is_there_before_the_program_begins(folder: Path) -> None:
    leader = start(folder, "sh", "-c", "cat server.pid; exec sleep 60")
    while not (folder / "server.log").stat().st_size:
        time.sleep(0.01)
    said = (folder / "server.log").read_text().split()
    assert said == [leader.boot, str(leader.pid), str(leader.ticks)]
    end(folder, signal.SIGTERM, 10.0)


def test_the_environment_is_clean(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOVIE_MLOPS_ADMIN_API_KEY", "of the caller")
    with (folder / "lock").open("w") as lock:
        wanted = Process("server", ("env",), {"MOVIE_MLOPS_PORT": "8123"})
        launch(wanted, folder, lock.fileno())
    family_of(folder, 0)
    lines = (folder / "server.log").read_text().splitlines()
    assert {line.partition("=")[0] for line in lines} == {
        "PATH",
        "HOME",
        "LANG",
        "MOVIE_MLOPS_PORT",
    }


def test_a_large_log_is_begun_anew(folder: Path) -> None:
    (folder / "server.log").write_bytes(b"x" * 5_000_001)
    start(folder, "sleep", "60")
    assert (folder / "server.log").stat().st_size == 0
    assert (folder / "server.log.1").stat().st_size == 5_000_001
    assert len(survey().family((), folder)) == 1
    end(folder, signal.SIGTERM, 10.0)


def test_a_command_that_fails_says_why(folder: Path) -> None:
    ground = Ground(folder, folder, "127.0.0.1", {}, str, dict)
    with pytest.raises(EngineUnavailableError, match=r"sh failed \(3\): no way .*setup\.log"):
        run_once(ground, ("sh", "-c", "echo no way; exit 3"))
    run_once(ground, ("true",))
    assert not (folder / "setup.log").exists()


def test_the_holder_of_a_port_is_named() -> None:
    code = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); "
    code += "print(s.getsockname()[1], flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as stranger:
        assert stranger.stdout is not None
        port = int(stranger.stdout.readline())
        assert not is_free("127.0.0.1", port)
        assert f"(process {stranger.pid})" in holder(port)
        stranger.kill()
    assert is_free("127.0.0.1", port)


def test_a_zombie_is_dead(folder: Path) -> None:
    with subprocess.Popen(["true"]) as child:
        deadline = time.monotonic() + 10
        while child.pid in Survey()._rows:
            assert time.monotonic() < deadline
        assert Path(f"/proc/{child.pid}").exists()
