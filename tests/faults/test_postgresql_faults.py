"""PostgreSQL with exposures, tests and the loop's memory: gone, frozen, locked, killed, behind."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from tests.houses import furnish, running
from tests.postgres import Postgres

from movie_mlops.automation.loop_store import open_loop_store
from movie_mlops.domain.errors import EngineUnavailableError
from movie_mlops.domain.experiments import Arm, Experiment
from movie_mlops.domain.interactions import InteractionType
from movie_mlops.domain.requests import new_request_id
from movie_mlops.events import open_event_log
from movie_mlops.events.schemas import USER_EVENTS, UserInteractionEvent, encode
from movie_mlops.models.serving import exposures, outcomes
from movie_mlops.models.serving.exposure_engines import open_exposure_store
from movie_mlops.models.serving.exposures import ExposureLog, Shown
from movie_mlops.models.serving.outcomes import OutcomeJoiner
from movie_mlops.settings import Settings
from movie_mlops.state import Server

pytestmark = pytest.mark.engine("postgresql")
TEST = Experiment("t", (Arm("a"), Arm("b")))


def until(is_so: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if is_so():
                return
        except EngineUnavailableError:
            pass
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def settings_on(home: Path, server: Server, **more: object) -> Settings:
    url = f"postgresql://{server.user}@{server.host}:{server.port}/{server.database}"
    return Settings.model_validate(
        {"home": home, "state_url": url, "state_password": server.password, **more}
    )


class Traffic:
    """A viewer who asks on and on; `took` are seconds of each answer, `ids` what was answered."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.ids: list[str] = []
        self.took: list[float] = []
        self.failed: list[object] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as api:
            while not self._stop.wait(0.01):
                start = time.monotonic()
                answer = api.get("/api/v1/recommendations", params={"user_id": "1"})
                self.took.append(time.monotonic() - start)
                if answer.status_code == 200:
                    self.ids.append(answer.json()["request_id"])
                else:
                    self.failed.append(answer)

    @contextmanager
    def going(self) -> Iterator["Traffic"]:
        self._thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            self._thread.join()

    def wait_for(self, more: int) -> None:
        aim = len(self.ids) + more
        until(lambda: len(self.ids) >= aim)


def dropped() -> float:
    return float(exposures._DROPPED["unwritten"]._value.get())


def finds(url: str, request_id: str) -> bool:
    return httpx.get(f"{url}/api/v1/predictions/{request_id}", timeout=30).status_code == 200


def test_lists_go_on_while_the_database_is_killed_and_it_comes_back_by_itself(
    postgres: Postgres, tmp_path: Path
) -> None:
    """Fault 29 and Fault 77, for who was shown what."""
    settings = settings_on(tmp_path, postgres.database())
    furnish(settings)
    with running(settings) as url, Traffic(url).going() as traffic:
        traffic.wait_for(20)
        first = traffic.ids[0]
        until(lambda: finds(url, first))
        before = dropped()
        postgres.kill()
        traffic.wait_for(50)
        until(lambda: dropped() > before)
        start = time.monotonic()
        assert httpx.get(f"{url}/api/v1/predictions/{first}", timeout=30).status_code == 503
        assert time.monotonic() - start < 10
        postgres.start()
        traffic.wait_for(20)
        until(lambda: finds(url, traffic.ids[-1]))
        assert finds(url, first)
    assert traffic.failed == []


def test_a_frozen_database_holds_up_no_list(postgres: Postgres, tmp_path: Path) -> None:
    """Fault 29 and Fault 56: connections stay open and nothing answers."""
    settings = settings_on(tmp_path, postgres.database())
    furnish(settings)
    with running(settings) as url, Traffic(url).going() as traffic:
        traffic.wait_for(20)
        until(lambda: finds(url, traffic.ids[0]))
        before = dropped()
        with postgres.frozen():
            start = time.monotonic()
            told = httpx.get(f"{url}/api/v1/predictions/{new_request_id()}", timeout=60)
            assert told.status_code in (503, 504)
            assert time.monotonic() - start < 15
            until(lambda: dropped() > before)
            traffic.wait_for(50)
            assert max(traffic.took) < 5  # no list waited for it
        until(lambda: finds(url, traffic.ids[-1]))
    assert traffic.failed == []


def test_a_process_ends_although_the_database_is_frozen(postgres: Postgres) -> None:
    """Fault 57."""
    server = postgres.database()
    store = open_exposure_store(server, "one")
    log = ExposureLog(store)
    log.start()
    log.note("r", Shown("list", "1", "personal", "m", "1", "s"))
    until(lambda: store.rows("SELECT count(*) FROM batches") == [(1,)])
    with postgres.frozen():
        log.note("s", Shown("list", "1", "personal", "m", "1", "s"))
        start = time.monotonic()
        log.close()
        store.close()
        assert time.monotonic() - start < 8


def test_a_locked_table_delays_for_a_bounded_time_and_frees_by_itself(postgres: Postgres) -> None:
    """Fault 29 and Fault 56: slow, not gone."""
    server = postgres.database()
    store, loop = open_exposure_store(server, "one"), open_loop_store(server)
    log = ExposureLog(store)
    log.note("before", Shown("list", "1", "personal", "m", "1", "s"))
    log.flush()
    assert loop.stopped() == {}
    with postgres.asking(server) as cursor:
        cursor.execute("BEGIN")
        cursor.execute("LOCK TABLE batches, stopped IN ACCESS EXCLUSIVE MODE")
        before = dropped()
        for ask, seconds in (
            (lambda: log.recall("before", None), 3),
            (lambda: loop.stop("m", "why", datetime.now(UTC)), 8),
        ):
            start = time.monotonic()
            try:
                assert ask() is None  # a look-up ends without a word
            except EngineUnavailableError as error:
                assert "statement timeout" in str(error)  # noqa: PT017 (either is right)
            assert time.monotonic() - start < seconds
        log.note("lost", Shown("list", "1", "personal", "m", "1", "s"))
        start = time.monotonic()
        log.flush()
        assert time.monotonic() - start < 5
        assert dropped() - before == 1
        cursor.execute("ROLLBACK")
    log.note("after", Shown("list", "1", "personal", "m", "1", "s"))
    log.flush()
    assert log.recall("after", None) is not None
    assert log.recall("before", None) is not None
    assert loop.stop("m", "why", datetime.now(UTC))
    store.close()


WRITER = """
import sys, time
from datetime import UTC, datetime
from movie_mlops.automation.loop_store import open_loop_store
from movie_mlops.domain.errors import EngineUnavailableError
from movie_mlops.events.schemas import LoopTransition
from movie_mlops.models.serving.exposure_engines import open_exposure_store
from movie_mlops.models.serving.exposure_store import Batch
from movie_mlops.state import Server
name, *where = eval(sys.argv[1])
store, loop = open_exposure_store(Server(*where), name), open_loop_store(Server(*where))
number = 0
while True:
    number += 1
    said = f"{name}-{number}"
    now = round(1000 * time.time())
    try:
        store.write(Batch(now, now, 1, said.encode(), (), (("(shadow)", "made", name, 1),)))
        print("batch", said, flush=True)
        loop.note(LoopTransition("m", said, "a", "b", "", "loop", "", datetime.now(UTC)), said)
        print("move", said, flush=True)
    except EngineUnavailableError:
        time.sleep(0.1)
"""


def test_what_was_acknowledged_is_there_whoever_is_killed(
    postgres: Postgres, tmp_path: Path
) -> None:
    """Fault 77: the server under writes, then the writers."""
    server = postgres.database()
    where = (server.host, server.port, server.database, server.user, server.password)
    files = [tmp_path / name for name in ("a", "b")]
    children = []
    for file in files:
        with file.open("w") as said:
            command = [sys.executable, "-c", WRITER, repr((file.name, *where))]
            children.append(subprocess.Popen(command, stdout=said))

    def lines() -> list[list[str]]:
        return [file.read_text().splitlines() for file in files]

    try:
        until(lambda: all(len(each) > 60 for each in lines()), 60)
        postgres.kill()
        time.sleep(0.3)
        stood = [len(each) for each in lines()]
        postgres.start()
        until(lambda: all(len(n) > was + 60 for n, was in zip(lines(), stood, strict=True)), 60)
    finally:
        for child in children:
            child.kill()
            child.wait()
    said = [line.split() for each in lines() for line in each if len(line.split()) == 2]
    store = open_exposure_store(server, "reader")
    there = {bytes(body).decode() for body in store.bodies_since(0)}
    moves = {each.event_id for each in open_loop_store(server).history(1_000_000)}
    assert {name for kind, name in said if kind == "batch"} <= there
    assert {name for kind, name in said if kind == "move"} <= moves
    [(kept, counted)] = store.rows(
        "SELECT (SELECT sum(records) FROM kept), (SELECT sum(exposures) FROM arms)"
    )
    assert kept == counted == len(there)  # each batch whole: its record and its count
    store.close()


def test_one_process_joins_and_another_goes_on_when_the_server_was_killed(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 69 and Fault 77: each user counts once."""
    monkeypatch.setattr(outcomes, "_SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(outcomes, "_LOOK_SECONDS", 0.05)
    server = postgres.database()
    with (
        closing(open_event_log("sqlite:events.db", tmp_path, 10_000_000)) as log,
        closing(open_exposure_store(server, "one")) as one,
        closing(open_exposure_store(server, "two")) as two,
    ):
        logs = [ExposureLog(store, TEST) for store in (one, two)]
        joiners = [
            OutcomeJoiner(TEST, log, store, shown)
            for store, shown in zip((one, two), logs, strict=True)
        ]
        for joiner in joiners:
            joiner.start()

        def act(user: str) -> None:
            request_id = new_request_id()
            shown = Shown("list", user, "personal", "m", "1", "s", experiment="t", arm="a")
            logs[0].note(request_id, shown)
            logs[0].flush()
            event = UserInteractionEvent(
                user, 1, InteractionType.CLICK, datetime.now(UTC), request_id=request_id
            )
            log.publish(USER_EVENTS, [encode(event)])

        def converted() -> int:
            return int(two.rows("SELECT sum(converted) FROM subjects")[0][0] or 0)

        act("1")
        until(lambda: converted() == 1)
        postgres.kill()
        time.sleep(0.2)
        postgres.start()
        until(lambda: two.rows("SELECT 1"))
        until(lambda: one.rows("SELECT 1"))
        time.sleep(1.1)  # the pause after a failed connection
        act("2")
        act("1")
        until(lambda: converted() == 2)
        leads = [joiner._leads for joiner in joiners]
        until(lambda: sum(joiner._leads for joiner in joiners) == 1)
        joiners[leads.index(True)].stop()
        (one, two)[leads.index(True)].close()
        logs[0] = logs[leads.index(False)]
        act("3")
        other = (one, two)[leads.index(False)]
        until(lambda: other.rows("SELECT sum(converted) FROM subjects") == [(3,)])
        for joiner in joiners:
            joiner.stop()


def test_73_an_api_starts_without_its_database_and_its_test_begins_later(
    postgres: Postgres, tmp_path: Path
) -> None:
    """Fault 73."""
    server = postgres.database()
    definition = '{"name": "t", "arms": [{"name": "a"}, {"name": "b"}]}'
    settings = settings_on(tmp_path, server, experiment=definition)
    furnish(settings)
    postgres.kill()
    with running(settings) as url, Traffic(url).going() as traffic:
        traffic.wait_for(20)
        assert traffic.failed == []
        assert httpx.get(f"{url}/api/v1/experiments/t", timeout=30).status_code == 503
        postgres.start()
        until(lambda: finds(url, traffic.ids[-1]))
        until(lambda: httpx.get(f"{url}/api/v1/experiments/t", timeout=30).status_code == 200)

        def users() -> int:
            found = httpx.get(f"{url}/api/v1/experiments/t", timeout=30).json()
            return sum(arm["exposed_users"] for arm in found["arms"])

        until(lambda: users() == 1)
