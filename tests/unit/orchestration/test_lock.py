import subprocess
import sys
from pathlib import Path

import pytest

from movie_mlops.domain.errors import HomeLockedError
from movie_mlops.orchestration.lock import writer_lock

HOLD = """
import sys, time
from pathlib import Path
from movie_mlops.orchestration.lock import writer_lock
with writer_lock(Path(sys.argv[1]), "the test"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_is_refused_and_told_who_writes(tmp_path: Path) -> None:
    path = tmp_path / "var" / "run.lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        message = f"the test \\(process {holder.pid}\\)"
        with pytest.raises(HomeLockedError, match=message), writer_lock(path, "another"):
            pass
        holder.kill()
        holder.wait()
        with writer_lock(path, "another"):
            assert "another" in path.read_text()
