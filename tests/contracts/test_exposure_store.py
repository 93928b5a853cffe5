"""The contract of exposures and A/B tests, on every engine: noted, found, bounded, shared."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from movie_mlops.domain.errors import EngineUnavailableError
from movie_mlops.domain.experiments import Arm, Experiment
from movie_mlops.domain.requests import new_request_id
from movie_mlops.models.serving import exposure_postgresql, exposure_sqlite, exposures
from movie_mlops.models.serving.ab_report import encode_definition
from movie_mlops.models.serving.experiment_store import ExperimentStore
from movie_mlops.models.serving.exposure_engines import open_exposure_store
from movie_mlops.models.serving.exposure_store import Batch, ExposureStore
from movie_mlops.models.serving.exposures import ExposureLog, Shown, erase_exposures, written
from movie_mlops.state import State

TEST = Experiment("t", (Arm("a"), Arm("b")))
Opens = Callable[[str], ExposureStore]


@pytest.fixture(
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.engine("postgresql"))]
)
def state(request: pytest.FixtureRequest, tmp_path: Path) -> State:
    """A folder, or a new database on a real server."""
    if request.param == "sqlite":
        return tmp_path / "var"
    server: State = request.getfixturevalue("postgres").database()
    return server


@pytest.fixture
def opens(state: State) -> Iterator[Opens]:
    """Opens the store as another process would; all are closed at the end."""
    made: list[ExposureStore] = []

    def opened(worker: str) -> ExposureStore:
        made.append(open_exposure_store(state, worker, kept_records=1_000))
        return made[-1]

    yield opened
    for store in made:
        store.close()


@pytest.fixture
def store(opens: Opens) -> ExposureStore:
    return opens("one")


def shown(user: str = "1", kind: str = "list", arm: str = "") -> Shown:
    return Shown(
        kind, user, "personal", "movie_recommender", "7", "s1", "popularity", "hash",
        "user-events:0:3", (5, 3), experiment=TEST.name if arm else "", arm=arm,
    )  # fmt: skip


def test_what_is_noted_is_found_by_its_id(store: ExposureStore) -> None:
    log = ExposureLog(store)
    same, ids = shown(), [new_request_id() for _ in range(50)]
    for request_id in ids:
        log.note(request_id, same)
    log.note("client-given", shown("2"))
    for request_id, user in ((ids[0], "1"), (ids[-1], "1"), ("client-given", "2")):
        found = log.find(request_id)
        assert found is not None
        assert (found.request_id, found.shown) == (request_id, shown(user))
        assert abs(found.at_ms - 1000 * time.time()) < 10_000
    [(rows, records)] = store.rows("SELECT count(*), sum(records) FROM batches")
    assert (rows, records) == (1, 51)  # one row per batch, not per answer
    for unknown in ("client", "client-given ", new_request_id(), "0" * 32):
        assert log.find(unknown) is None


def test_one_id_for_several_viewers_and_their_shadows(store: ExposureStore) -> None:
    log = ExposureLog(store)
    for user in ("1", "2", "3"):
        log.note("batch", shown(user))
    log.note("batch", shown("4", kind="shadow"))
    assert [_user(log, user) for user in ("1", "2", "3", "4", None)] == ["1", "2", "3", None, "3"]


def _user(log: ExposureLog, user: str | None) -> str | None:
    found = log.recall("batch", user) or log.find("batch", user)
    return found.shown.user_id if found else None


def test_other_processes_find_it_and_a_kill_loses_only_what_was_not_written(
    store: ExposureStore, opens: Opens
) -> None:
    log = ExposureLog(store)
    log.note("written", shown())
    log.flush()
    log.note("lost", shown())
    other = ExposureLog(opens("two"))
    found = other.find("written")
    assert found is not None
    assert found.shown == shown()
    assert other.find("lost") is None


def test_it_is_written_by_itself_and_soon(store: ExposureStore) -> None:
    log = ExposureLog(store)
    log.start()
    log.note("r", shown())
    give_up = time.monotonic() + 10
    while store.rows("SELECT count(*) FROM batches") == [(0,)] and time.monotonic() < give_up:
        time.sleep(0.01)
    assert store.rows("SELECT worker, records FROM batches") == [("one", 1)]
    log.close()


def test_too_many_that_wait_are_dropped_and_counted(
    store: ExposureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposures, "MOST_PENDING", 10)
    dropped = exposures._DROPPED["full"]
    exposures.TALLY.flush()
    before = dropped._value.get()
    log = ExposureLog(store)
    for number in range(25):
        log.note(str(number), shown())
    log.flush()
    exposures.TALLY.flush()
    assert dropped._value.get() - before == 15
    assert _kept(store) == 10


def test_the_oldest_go_when_there_are_too_many(store: ExposureStore) -> None:
    log = ExposureLog(store)
    for batch in range(30):
        for number in range(100):
            log.note(f"r{batch}-{number}", shown())
        log.flush()
    store.prune()
    kept = _kept(store)
    assert kept <= 1_000
    assert store.rows("SELECT sum(records) FROM batches") == [(kept,)]
    assert log.recall("r29-99", None) is not None
    assert log.recall("r0-0", None) is None


def test_after_a_day_nothing_is_left(store: ExposureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    log = ExposureLog(store)
    old, young = new_request_id(), new_request_id()
    log.note(old, shown())
    log.flush()
    log.note(young, shown())
    log.flush()
    with store.changing() as connection:
        first = connection.execute("SELECT min(number) FROM batches").fetchone()
        connection.execute("UPDATE batches SET end_ms = end_ms - 90000000 WHERE number = ?", first)
    assert log.recall(old, None) is None  # also before it is removed
    store.prune()
    assert store.rows("SELECT count(*) FROM batches") == [(1,)]
    assert log.recall(young, None) is not None


def test_only_so_many_look_at_once(store: ExposureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposures, "LOOK_UP_SECONDS", 0.01)
    log = ExposureLog(store)
    with log._searching, pytest.raises(EngineUnavailableError, match="look-ups"):
        log.find("r")


def test_users_are_counted_once_and_those_of_two_arms_not_at_all(store: ExposureStore) -> None:
    """Fault 69."""
    tests = ExperimentStore(store)
    assert tests.register("t", encode_definition(TEST))
    assert not tests.register("t", encode_definition(TEST))
    logs = [ExposureLog(store, TEST), ExposureLog(store, TEST)]
    for log in logs:
        for _ in range(3):
            for user, arm in (("1", "a"), ("2", "b"), ("3", "b")):
                log.note(new_request_id(), shown(user, arm=arm))
            log.flush()
    logs[0].note(new_request_id(), shown("3", arm="a"))
    logs[0].note(new_request_id(), shown("4"))
    logs[0].flush()
    found = tests.find("t", 10**12)
    assert found is not None
    assert (found.subjects, found.crossed) == (3, 1)
    assert [(arm, users, done) for _, arm, users, done in found.cells] == [("a", 1, 0), ("b", 1, 0)]
    assert found.versions == {"a": {"7": 7}, "b": {"7": 12}}


def test_subjects_and_tests_are_bounded(
    store: ExposureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    tests = ExperimentStore(store)
    for name in ("one", "two", "three", "four", "t"):
        tests.register(name, encode_definition(TEST))
        time.sleep(0.002)
    assert tests.names() == ["t", "four", "three"]
    few = exposure_sqlite._ADD_SUBJECT.replace(str(exposure_sqlite.KEPT_SUBJECTS), "5")
    monkeypatch.setattr(exposure_sqlite, "_ADD_SUBJECT", few)
    monkeypatch.setattr(exposure_postgresql, "KEPT_SUBJECTS", 5)
    log = ExposureLog(store, TEST)
    for user in range(20):
        log.note(new_request_id(), shown(str(user), arm="a"))
    log.flush()
    assert store.rows("SELECT count(*) FROM subjects") == [(5,)]


def _kept(store: ExposureStore) -> int:
    return int(store.rows("SELECT sum(records) FROM kept")[0][0])


def test_a_rolled_over_lead_is_one_at_a_time(opens: Opens) -> None:
    one, two = opens("one"), opens("two")
    assert one.lead()
    assert one.lead()
    assert not two.lead()
    one.close()
    assert two.lead()


def test_the_leaders_death_hands_over(opens: Opens, state: State) -> None:
    """Fault 77: killed without a word."""
    code = (
        "import sys\nfrom movie_mlops.models.serving.exposure_engines import open_exposure_store\n"
        "from movie_mlops.state import Server\nfrom pathlib import Path\n"
        f"store = open_exposure_store({_source(state)}, 'other')\n"
        "print(store.lead(), flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "True\n"
        store = opens("one")
        assert not store.lead()
        child.kill()
    deadline = time.monotonic() + 10
    while not store.lead():
        assert time.monotonic() < deadline, "nobody leads"
        time.sleep(0.02)


def _source(state: State) -> str:
    if isinstance(state, Path):
        return f"Path({str(state)!r})"
    where = (state.host, state.port, state.database, state.user, state.password)
    return f"Server(*{where!r})"


def test_all_open_and_write_at_once(opens: Opens) -> None:
    """Tables are made once; users and lists that several processes count are counted right."""

    def work(worker: str) -> ExposureStore:
        store = opens(worker)
        tests = ExperimentStore(store)
        tests.register("t", encode_definition(TEST))
        log = ExposureLog(store, TEST)
        for _ in range(20):
            for user in range(20):
                log.note(new_request_id(), shown(str(user), arm="a" if user % 2 else "b"))
            log._known.clear()
            log.flush()
            subjects = [TEST.subject(str(user)) for user in range(20)]
            tests.convert("t", subjects, 5)
            store.prune()
        return store

    with ThreadPoolExecutor(4) as workers:
        stores = list(workers.map(work, "abcd"))
    [(records,)] = stores[0].rows("SELECT sum(records) FROM batches")
    assert records == _kept(stores[0])
    assert 900 <= records <= 1_000
    found = ExperimentStore(stores[3]).find("t", 10**12)
    assert found is not None
    assert (found.subjects, found.crossed, found.joined_ms) == (20, 0, 5)
    assert [(arm, users, done) for _, arm, users, done in found.cells] == [
        ("a", 10, 10), ("b", 10, 10),
    ]  # fmt: skip
    assert found.versions == {"a": {"7": 800}, "b": {"7": 800}}


def test_a_batch_is_written_whole_or_not_at_all(store: ExposureStore) -> None:
    now = round(1000 * time.time())
    broken = Batch(now, now, 1, b"body", (), (("t", "a", None, 1),))  # type: ignore[arg-type]
    with pytest.raises(EngineUnavailableError):
        store.write(broken)
    assert store.rows("SELECT count(*) FROM batches") == [(0,)]
    store.write(Batch(now, now, 1, b"body", (), (("t", "a", "1", 1),)))
    assert store.rows("SELECT count(*) FROM batches") == [(1,)]
    assert store.rows("SELECT * FROM arms") == [("t", "a", "1", 1)]


def test_one_viewer_is_erased_and_the_others_stay(store: ExposureStore) -> None:
    """Fault 80."""
    log = ExposureLog(store, TEST)
    tests = ExperimentStore(store)
    tests.register("t", encode_definition(TEST))
    for viewers in (("gone", "stays"), ("gone",), ("stays",)):
        for viewer in viewers:
            log.note(f"r-{viewer}", shown(viewer, arm="a"))
        log.flush()
    assert erase_exposures(store, "gone") == 2
    assert tests.erase({"t": TEST.subject("gone"), "another": b"?"}) == 1
    store.forget_deleted()
    assert erase_exposures(store, "gone") == 0
    assert log.recall("r-gone", None) is None
    assert log.recall("r-stays", "stays") is not None
    batches = list(written(store, 0))
    assert [list(batch.request_ids) for batch in batches] == [["r-stays"], ["r-stays"]]
    assert _kept(store) == 2
    assert store.rows("SELECT count(*) FROM subjects") == [(1,)]


def test_many_batches_are_read_in_order_and_a_reader_may_leave(store: ExposureStore) -> None:
    log = ExposureLog(store)
    for number in range(60):
        log.note(str(number), shown())
        log.flush()
    reader = written(store, 0)
    assert list(next(reader).request_ids) == ["0"]
    reader.close()
    found = [name for batch in written(store, 0) for name in batch.request_ids]
    assert found == [str(number) for number in range(60)]
    now = round(1000 * time.time())
    assert list(written(store, now + 60_000)) == []


def test_names_of_any_text_name_nothing(store: ExposureStore) -> None:
    tests = ExperimentStore(store)
    for name in ("\0", "'; --", "%s", "?", "𝄞", ""):
        assert tests.definition(name) is None
        assert list(store.bodies(name or "?", None, 1.0)) == []
