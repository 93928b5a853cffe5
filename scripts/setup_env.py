#!/usr/bin/env python3
"""Make the project's own environment: one progress line per step, seconds when nothing changed.

Needs only Python 3.11 or later and the package registries; uses nothing but the standard library.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = "uv>=0.9"
LOG = ROOT / "var" / "logs" / "setup.log"


def fingerprint(*paths: Path) -> str:
    """SHA-256 over the names and bytes of files, so that a change is noticed and a touch is not."""
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted(paths):
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def call(*command: str, cwd: Path = ROOT) -> None:
    """Run a command with its output in the log; on failure show the log's end and stop."""
    LOG.parent.mkdir(parents=True, exist_ok=True)
    with LOG.open("a") as log:
        log.write(f"$ {' '.join(command)}\n")
        log.flush()
        done = subprocess.run(
            command, cwd=cwd, stdout=log, stderr=log, env=environment(), check=False
        )
    if done.returncode:
        tail = LOG.read_text(errors="replace").splitlines()[-20:]
        sys.exit(
            "\n".join([*tail, f"setup: {command[0]} failed ({done.returncode}); whole log: {LOG}"])
        )


def environment() -> dict[str, str]:
    """This environment, with pip's find-links handed to uv, which does not read pip's settings."""
    env = dict(os.environ)
    found = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.find-links"],
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode == 0 and "UV_FIND_LINKS" not in env:
        env["UV_FIND_LINKS"] = found.stdout.strip()
    if "UV_FIND_LINKS" not in env:
        env.setdefault("UV_TORCH_BACKEND", "auto")  # CUDA's gigabytes only where there is a GPU
    return env


def step(
    number: int, total: int, name: str, stamp: Path, mark: str, work: Callable[[], None]
) -> None:
    """Do one step unless its stamp says that exactly this was done before."""
    if stamp.exists() and stamp.read_text() == mark:
        print(f"[{number}/{total}] {name}: up to date", flush=True)
        return
    print(f"[{number}/{total}] {name} ...", end="", flush=True)
    start = time.perf_counter()
    work()
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(mark)
    print(f" {time.perf_counter() - start:.1f} s", flush=True)


def python_environment(venv: Path, requirements: Sequence[Path]) -> None:
    """Create the virtual environment when it is missing, install the exact pins and the project."""
    python = venv / "bin" / "python"
    if not python.exists():
        call(sys.executable, "-m", "venv", str(venv))
    if not (venv / "bin" / "uv").exists():
        call(str(python), "-m", "pip", "install", "--quiet", UV)
    uv = str(venv / "bin" / "uv")
    pins = [part for path in requirements for part in ("-r", str(path))]
    call(uv, "pip", "install", "--python", str(python), *pins)
    call(uv, "pip", "install", "--python", str(python), "--no-deps", "-e", str(ROOT))


def airflow_environment(venv: Path, airflow: Path, pins: Path) -> None:
    """Create Airflow's own environment: its exact pins, and of ours only `orchestration`."""
    python, uv = airflow / "bin" / "python", str(venv / "bin" / "uv")
    if not python.exists():
        call(uv, "venv", "--python", str(venv / "bin" / "python"), str(airflow))
    call(uv, "pip", "install", "--python", str(python), "-r", str(pins))
    ours = next(airflow.glob("lib/python3*/site-packages")) / "movie_mlops" / "orchestration"
    ours.parent.mkdir(exist_ok=True)
    ours.unlink(missing_ok=True)
    ours.symlink_to(ROOT / "src" / "movie_mlops" / "orchestration")


def node_version() -> int:
    """Node's major version, 0 when Node or npm is missing."""
    if not (shutil.which("node") and shutil.which("npm")):
        return 0
    text = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout
    return int(text.lstrip("v").split(".")[0] or 0)


def page() -> None:
    """Install the page's exact packages and build it."""
    frontend = ROOT / "frontend"
    call("npm", "ci", "--no-audit", "--no-fund", cwd=frontend)
    call("npm", "run", "build", cwd=frontend)


def main() -> None:
    """Command line: --dev adds the tools of `make check`; the others those engines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dev", action="store_true", help="also install what `make check` needs")
    parser.add_argument(
        "--venv", type=Path, default=ROOT / ".venv", help="where the environment goes"
    )
    parser.add_argument("--torch", action="store_true", help="also install PyTorch")
    parser.add_argument("--spark", action="store_true", help="also install Spark")
    parser.add_argument(
        "--airflow", action="store_true", help="also make Airflow's environment, VENV-airflow"
    )
    parser.add_argument("--no-page", action="store_true", help="do not build the page")
    args = parser.parse_args()
    if sys.version_info < (3, 11):  # noqa: UP036 (an older interpreter is what this line is for)
        sys.exit("setup: Python 3.11 or later is needed; set PYTHON=python3.12, say, and try again")
    venv = args.venv.resolve()
    airflow = venv.parent / f"{venv.name}-airflow"
    has_airflow = args.airflow or airflow.exists()  # what was asked for once stays
    total = 2 + has_airflow
    kinds = {kind for kind in ("dev", "spark", "torch") if getattr(args, kind)}
    stamp = venv / "stamps" / "python"
    if stamp.exists():  # what was asked for once stays
        kinds |= set(stamp.read_text().partition(" ")[2].split())
    pins = [ROOT / "requirements" / "base.txt"]
    pins += [ROOT / "requirements" / f"{kind}.txt" for kind in sorted(kinds)]
    mark = " ".join([fingerprint(*pins, ROOT / "pyproject.toml"), *sorted(kinds)])
    name = f"Python packages ({', '.join(['base', *sorted(kinds)])})"
    step(1, total, name, stamp, mark, lambda: python_environment(venv, pins))
    if has_airflow:
        pin = ROOT / "requirements" / "airflow.txt"
        made = airflow / "stamps" / "python"
        work = partial(airflow_environment, venv, airflow, pin)
        step(2, total, "Airflow's own packages", made, fingerprint(pin), work)
    if args.no_page:
        return
    if node_version() < 20:
        print(
            f"[{total}/{total}] page: left out, Node 20 or later is not there; "
            "the API runs without it. To get the page install Node and run `make up` again",
            flush=True,
        )
        return
    sources = [
        p
        for p in (ROOT / "frontend").rglob("*")
        if p.is_file() and not {"node_modules", "dist"} & set(p.relative_to(ROOT).parts)
    ]
    step(total, total, "page", ROOT / "frontend" / "dist" / ".stamp", fingerprint(*sources), page)


if __name__ == "__main__":
    main()
