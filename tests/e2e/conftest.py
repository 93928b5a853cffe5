"""A trained house on the small sample with its real API, and Chromium in front of it."""

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
DIST = ROOT / "frontend" / "dist"
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
SMALL = {"MOVIE_MLOPS_SAMPLE_FILMS": "200", "MOVIE_MLOPS_SAMPLE_PEOPLE": "150"}
START_SECONDS = 60.0
WATCH_CSP = """
  window.violations = [];
  document.addEventListener('securitypolicyviolation',
    (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""

Open = Callable[..., Page]
"""Opens the page: `language`, `theme`, `width`, and `kept` (what this browser remembers)."""


@pytest.fixture(scope="session")
def chromium() -> str:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no chromium; `sh scripts/install_browser.sh` installs it where it may")
    if not (DIST / "index.html").is_file():
        pytest.skip("frontend/dist is not built; `make setup` builds it where Node 20 is")
    return path


@pytest.fixture(scope="session")
def home(chromium: str, worker_id: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with films, people and a champion, trained once for all test processes."""
    base = tmp_path_factory.getbasetemp()
    base = base if worker_id == "master" else base.parent
    home = base / "page-home"
    with (base / "page-home.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            home.mkdir()
            command = [sys.executable, "-m", "movie_mlops", "run"]
            names = ["data_collection", "training", "rollout"]
            done = subprocess.run(
                [*command, *names, "--home", str(home)],
                env=environment(),
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
    return home


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if "MOVIE_MLOPS" not in name}
    return {**kept, **SMALL, "OPENBLAS_NUM_THREADS": "1", **more}


class Api:
    """The API's process; it can go away and come back on the same port."""

    def __init__(self, home: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._home / "api.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "movie_mlops", "api"],
                env=environment(MOVIE_MLOPS_HOME=str(self._home), MOVIE_MLOPS_PORT=str(self.port)),
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, (self._home / "api.log").read_text()
            assert time.monotonic() < deadline, "the API did not start"
            time.sleep(0.1)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}v2/health/ready", timeout=2) as answer:  # noqa: S310 (loopback)
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


@pytest.fixture(scope="session")
def api(home: Path) -> Iterator[Api]:
    api = Api(home)
    api.start()
    yield api
    api.stop()


@pytest.fixture(scope="module")  # its event loop must not be there when other tests run theirs
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def errors() -> list[str]:
    """What the browser complained about; a test that provokes complaints clears it."""
    return []


@pytest.fixture
def open_page(browser: Browser, api: Api, errors: list[str]) -> Iterator[Open]:
    contexts: list[BrowserContext] = []

    def opened(
        language: str = "ko",
        theme: str = "light",
        width: int = 1440,
        kept: dict[str, str] | None = None,
    ) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 1000},
            locale="ko-KR" if language == "ko" else "en-US",
            color_scheme="dark" if theme == "dark" else "light",
        )
        contexts.append(context)
        context.set_default_timeout(15_000)
        context.add_init_script(WATCH_CSP)
        for name, value in (kept or {}).items():
            context.add_init_script(f"localStorage.setItem('movie-mlops.{name}', `{value}`)")
        page = context.new_page()
        page.on("console", lambda message: _note(errors, message.type, message.text))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(api.url)
        page.wait_for_selector(".card[data-film]")
        return page

    yield opened
    for context in contexts:
        for page in context.pages:
            errors += page.evaluate("window.violations")
        context.close()
    assert errors == []


def _note(errors: list[str], kind: str, text: str) -> None:
    if kind in ("error", "warning"):
        errors.append(f"{kind}: {text}")
