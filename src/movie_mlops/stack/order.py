"""In what order engines are worked on: side by side, each after those that it waits for."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from graphlib import TopologicalSorter

from movie_mlops.domain.errors import (
    ConfigurationError,
    EngineUnavailableError,
    MovieMlopsError,
)

Graph = Mapping[str, Iterable[str]]
"""By name the names that it waits for."""
_WAIT_SECONDS = 0.5


def reached(names: Iterable[str], graph: Graph) -> set[str]:
    """These names and all that they lead to."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += graph[name]
    return found


def turned(graph: Graph) -> dict[str, set[str]]:
    """The same arrows, the other way."""
    return {name: {other for other in graph if name in graph[other]} for name in graph}


def sorted_names(graph: Graph) -> list[str]:
    """Each name after those that it waits for."""
    return list(TopologicalSorter({name: set(graph[name]) for name in graph}).static_order())


def side_by_side(
    names: set[str], graph: Graph, act: Callable[[str], None], give_up: Callable[[], None]
) -> None:
    """Act on each name in a thread of its own when those that it waits for are done.

    Where one failed, those that wait for it are not begun. `give_up` is called when this thread
    is interrupted.

    Raises:
        ConfigurationError: one failed by a setting.
        EngineUnavailableError: one failed; with the texts of all that did.
    """
    before = {name: set(graph[name]) & names for name in names}
    order = sorted_names(before)
    done = {name: threading.Event() for name in order}
    failed: dict[str, MovieMlopsError] = {}

    def work(name: str) -> None:
        try:
            for other in before[name]:
                done[other].wait()
            if broken := before[name] & failed.keys():
                message = f"{name} was left alone: {', '.join(sorted(broken))} failed"
                raise EngineUnavailableError(message)
            act(name)
        except MovieMlopsError as error:
            failed[name] = error
        finally:
            done[name].set()

    with ThreadPoolExecutor(len(order) or 1) as pool:
        try:
            _wait_for([pool.submit(work, name) for name in order])
        except BaseException:
            give_up()
            raise
    if failed:
        raise _joined(list(failed.values()))


def _wait_for(jobs: Sequence["Future[None]"]) -> None:
    """Return when all are done, or raise what one raised.

    In short waits: a Ctrl-C that comes just before a wait is seen when that wait is over.
    """
    while True:
        done, others = wait(jobs, _WAIT_SECONDS, FIRST_EXCEPTION)
        for job in done:
            job.result()
        if not others:
            return


def _joined(failed: list[MovieMlopsError]) -> MovieMlopsError:
    """One error of several; a port or setting that is wrong goes before what may pass."""
    if len(failed) == 1:
        return failed[0]
    text = "; ".join(str(error) for error in failed)
    if any(isinstance(error, ConfigurationError) for error in failed):
        return ConfigurationError(text)
    return EngineUnavailableError(text)
