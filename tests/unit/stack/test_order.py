"""The order of engines: each after what it needs, side by side, what failed holds up its own."""

import subprocess
import sys
import threading

import pytest

from movie_mlops.domain.errors import ConfigurationError, EngineUnavailableError
from movie_mlops.stack.order import reached, side_by_side, sorted_names, turned

NEEDS = {"db": (), "cache": (), "tracker": ("db",), "store": ("cache",), "page": ("store", "db")}


def test_closures_and_turning() -> None:
    assert reached(["page"], NEEDS) == {"page", "store", "cache", "db"}
    assert reached(["db"], turned(NEEDS)) == {"db", "tracker", "page"}
    order = sorted_names(NEEDS)
    assert all(order.index(need) < order.index(name) for name in NEEDS for need in NEEDS[name])


def test_each_begins_after_what_it_needs_and_the_rest_at_once() -> None:
    done: list[str] = []
    both = threading.Barrier(2, timeout=10)  # passes only when db and cache are at work together

    def act(name: str) -> None:
        if name in ("db", "cache"):
            both.wait()
        assert set(NEEDS[name]) <= set(done)
        done.append(name)

    side_by_side(set(NEEDS), NEEDS, act, lambda: None)
    assert sorted(done) == sorted(NEEDS)


def test_a_failure_holds_up_only_what_needs_it() -> None:
    done: list[str] = []

    def act(name: str) -> None:
        if name == "cache":
            raise EngineUnavailableError(f"{name} is broken")
        done.append(name)

    with pytest.raises(EngineUnavailableError) as caught:
        side_by_side(set(NEEDS), NEEDS, act, lambda: None)
    assert sorted(done) == ["db", "tracker"]
    for text in ("cache is broken", "store was left alone: cache failed", "page was left alone"):
        assert text in str(caught.value)


def test_a_wrong_setting_wins_over_what_may_pass() -> None:
    def act(name: str) -> None:
        raise (ConfigurationError if name == "db" else EngineUnavailableError)(name)

    with pytest.raises(ConfigurationError):
        side_by_side({"db", "cache"}, NEEDS, act, lambda: None)


INTERRUPTED = """
import os, signal, threading
from movie_mlops.stack.order import side_by_side
over = threading.Event()
signal.signal(signal.SIGINT, signal.default_int_handler)

def act(name):
    if name == "db":
        os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C, which reaches the main thread
    assert over.wait(10)

try:
    side_by_side({"db", "cache"}, {"db": (), "cache": ()}, act, over.set)
except KeyboardInterrupt:
    print("given up" if over.is_set() else "not told")
"""


def test_an_interruption_lets_the_others_give_up() -> None:
    # in a process of its own, which takes Ctrl-C as a command in a terminal does: what a script
    # runs in the background is born to ignore it
    ran = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], check=False, capture_output=True, text=True, timeout=60
    )
    assert (ran.stdout, ran.stderr, ran.returncode) == ("given up\n", "", 0)
