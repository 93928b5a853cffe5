"""Set-up and fast tests on every interpreter that this machine has."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FAST_TESTS = (
    "tests/unit/domain", "tests/unit/test_settings.py", "tests/unit/models/test_bundle.py",
    "tests/unit/models/test_manifest.py", "tests/unit/data/test_watch_log.py",
    "tests/unit/events/test_consumer.py", "tests/unit/models/algorithms/test_sequence_linear.py",
)  # fmt: skip


def interpreter(name: str) -> str | None:
    """A working interpreter of this name: pyenv's, or the one on the path."""
    number = name.removeprefix("python")
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [*sorted(pyenv.glob(f"{number}.*/bin/python"), reverse=True), shutil.which(name)]
    for candidate in filter(None, found):
        ran = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=False)
        if ran.returncode == 0 and ran.stdout.startswith(f"Python {number}."):
            return str(candidate)
    return None


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["python3.12", "python3.13"])
def test_setup_and_fast_tests(name: str, tmp_path: Path) -> None:
    python = interpreter(name)
    if python is None:
        pytest.skip(f"no interpreter {name}")
    venv = tmp_path / "venv"
    subprocess.run(
        [python, "scripts/setup_env.py", "--dev", "--no-page", "--venv", str(venv)],
        cwd=ROOT,
        check=True,
    )
    ran = subprocess.run(
        [venv / "bin" / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *FAST_TESTS],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
    helped = subprocess.run(
        [venv / "bin" / "movie-mlops", "--help"], check=False, capture_output=True, text=True
    )
    assert "First steps" in helped.stdout
