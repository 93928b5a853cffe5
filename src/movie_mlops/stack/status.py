"""How an engine is: its processes, its answer, its memory, or who stands in its place."""

from movie_mlops.domain.errors import EngineUnavailableError
from movie_mlops.stack.base import Engine, Ground, State, Status
from movie_mlops.stack.files import Record
from movie_mlops.stack.processes import holder, is_free, look, notes
from movie_mlops.stack.survey import Survey, age, memory


def status_of(engine: Engine, ground: Ground, record: Record | None, seen: Survey) -> Status:
    """Look at one engine; never changes anything."""
    names = () if record is None else record.processes
    found = dict(zip(names, look(names, ground.folder, seen), strict=True))
    family = seen.family(notes(ground.folder), ground.folder)
    port = ground.port(engine.name)
    if not family or record is None:
        state, note = _absent(engine, ground)
        if record is not None and state == "stopped":
            note = "it ended by itself; `movie-mlops stack up` starts it again"
        version = engine.version() if engine.missing() is None else ""
        should_run = record is not None
        return Status(
            engine.name, engine.title, state, port, version, note=note, should_run=should_run
        )
    pids = tuple(each.pid for each in family)
    oldest = max(age(each) for each in family)
    state, note = _present(engine, ground, [name for name, each in found.items() if each is None])
    if state == "unhealthy" and record.start_seconds is None and oldest < engine.start_seconds:
        state = "starting"
    return Status(
        engine.name,
        engine.title,
        state,
        port,
        record.version,
        pids,
        memory(pids),
        oldest,
        record.start_seconds,
        note,
        should_run=True,
    )


def _present(engine: Engine, ground: Ground, ended: list[str]) -> tuple[State, str]:
    if ended:
        note = f"its process {ended[0]} ended; `movie-mlops stack up` starts it again"
        return "unhealthy", note
    try:
        engine.check(ground)
    except EngineUnavailableError as error:
        return "unhealthy", str(error)
    return "running", ""


def _absent(engine: Engine, ground: Ground) -> tuple[State, str]:
    port = ground.port(engine.name)
    if not is_free(ground.host, port):
        return "foreign", f"port {port} is taken by {holder(port)}, which is not ours"
    lack = engine.missing()
    if lack is not None:
        return "not installed", lack.text
    waits = engine.waits_for(ground)
    return ("waiting", waits) if waits else ("stopped", "")
