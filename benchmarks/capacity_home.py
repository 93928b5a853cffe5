"""One home of a given size, made by the project's own pipelines and measured step by step.

Each step is a process of its own, so that its memory is its own: `capacity.py` calls `observe`.
"""

import ctypes
import json
import os
import random
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from serving import EVENTS, System, cpu_of, get, load, post, serving

Figures = dict[str, float]
Told = Callable[[str], None]
FIRST_USER = 1_000_000  # nobody whom the model's first people know
BATCH = 500
SEED = 7
SMALL = {
    "SOURCE_URL": "sample:",
    "SAMPLE_PEOPLE": "60",
    "SAMPLE_WATCHES_PER_PERSON": "10",
    "CANDIDATE_ALGORITHMS": '["sequence_linear"]',
    "PROMOTION_SAMPLES": "200",
    "ROLLOUT_MODE": "immediate",
    "GATE_MEMORY_MB": "100000",
    "GATE_LATENCY_MS": "1000",
    "EVENT_LOG_MAX_BYTES": "50000000000",
    "WRITES_PER_MINUTE": "100000000",
    "WRITES_BURST": "100000000",
}


def environment(home: Path, films: int, more: dict[str, str] | None = None) -> dict[str, str]:
    """What every process of this home sees."""
    own = {"HOME": str(home), "SAMPLE_FILMS": str(films)}
    set_here = {f"MOVIE_MLOPS_{key}": value for key, value in {**SMALL, **own}.items()}
    threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **threads, **set_here, **(more or {})}


def child(command: list[str], env: dict[str, str]) -> tuple[Figures, str]:
    """CPU and wall seconds and peak memory of a process and its children; and what it printed."""
    began = time.perf_counter()
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        assert process.stdout is not None  # noqa: S101 (a pipe was asked for)
        said = process.stdout.read().decode()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        wrong = errors.read().decode(errors="replace")
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}\n{said}{wrong[-3000:]}")
    return {
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "wall_seconds": time.perf_counter() - began,
        "peak_bytes": used.ru_maxrss * 1024.0,
    }, said


def step(name: str, env: dict[str, str], *arguments: Any) -> Figures:
    """One function of `STEPS` in a process of its own."""
    command = [sys.executable, __file__, name, *map(str, arguments)]
    _, said = child(command, env)
    found: Figures = json.loads(said.splitlines()[-1])
    return found


def pipelines(env: dict[str, str], *names: str) -> Figures:
    """Pipelines of the home, as anybody runs them."""
    return child([sys.executable, "-m", "movie_mlops", "run", *names], env)[0]


def size(path: Path, pattern: str = "**/*") -> float:
    """Bytes of the files."""
    return float(sum(each.stat().st_size for each in path.glob(pattern) if each.is_file()))


def cpu() -> float:
    """CPU seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def rss() -> float:
    """Resident bytes of this process, less what it has freed and only keeps for later."""
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
    return float(psutil.Process().memory_info().rss)


def events_of(lake: Any, users: int, events: int) -> Any:
    """The simulator's acts of so many people, the latest ones; about `events` rows."""
    from movie_mlops.data.processors.population import draw_population
    from movie_mlops.data.processors.tastes import simulate_interactions

    population = draw_population(lake.read("movies"), users, SEED)
    watches = max(2, round(events / users / 2.1))  # a film watched is 2.3 acts
    return simulate_interactions(population, datetime.now(UTC), watches).tail(events)


def encoded(rows: Any) -> Any:
    """New events of the simulator's rows."""
    from movie_mlops.domain.interactions import InteractionType
    from movie_mlops.events.schemas import UserInteractionEvent, encode

    for row in rows.iter_rows(named=True):
        yield encode(
            UserInteractionEvent(
                str(FIRST_USER + int(row["user_id"])),
                row["movie_id"],
                InteractionType(row["interaction_type"]),
                row["timestamp"],
                row["rating"],
                session_id=f"{SEED:016x}",
            )
        )


def publish(users: int, events: int) -> Figures:
    """Simulate and publish; to the log that the settings name."""
    from movie_mlops.bootstrap import build_services
    from movie_mlops.events.schemas import USER_EVENTS
    from movie_mlops.settings import load_settings

    with closing(build_services(load_settings())) as home:
        rows = events_of(home.lake, users, events)
        began = cpu()
        for start in range(0, len(rows), BATCH):
            home.log.publish(USER_EVENTS, list(encoded(rows.slice(start, BATCH))))
        return {
            "events": len(rows),
            "users": rows["user_id"].n_unique(),
            "cpu_seconds": cpu() - began,
        }


def write_lake() -> Figures:
    """As the worker does it, until the log is in the lake."""
    from movie_mlops.bootstrap import build_services
    from movie_mlops.settings import load_settings

    with closing(build_services(load_settings())) as home:
        writer, before, seen = home.lake_writer(), cpu(), 0
        while found := writer.run_once():
            seen += found
        return {"events": seen, "cpu_seconds": cpu() - before}


def follow() -> Figures:
    """As a replica does it that has no snapshot: every event of the log into the histories."""
    from movie_mlops.bootstrap import build_services
    from movie_mlops.models.algorithms import load as load_model
    from movie_mlops.models.serving.follower import HistoriesFollower
    from movie_mlops.models.serving.histories import Histories
    from movie_mlops.models.serving.model_loader import ModelLoader
    from movie_mlops.settings import load_settings

    settings = load_settings()
    nothing = settings.home / "var" / "no-models"
    nothing.mkdir(parents=True, exist_ok=True)
    with closing(build_services(settings)) as home:
        home.log.ping()
        histories = Histories(settings.history_length)
        loader = ModelLoader(nothing, load_model)
        before, memory = cpu(), rss()
        HistoriesFollower(histories, home.log, loader, nothing, "capacity").catch_up()
        return {
            "users": histories.user_count,
            "cpu_seconds": cpu() - before,
            "live_bytes": rss() - memory,
        }


def store(users: int, acts: int) -> Figures:
    """Write histories of invented users and acts, as a training does."""
    from movie_mlops.models.bundle import save_bundle
    from movie_mlops.models.serving.histories import Histories
    from movie_mlops.models.serving.history_arrays import flat_arrays
    from movie_mlops.settings import load_settings

    rng = np.random.default_rng(SEED)
    count = users * acts
    span = 540 * 86_400 * 10**6  # the simulator's people act over 18 months
    times = np.sort(rng.integers(0, span, (users, acts)), axis=1).reshape(-1)
    columns = {
        "movies": rng.integers(1, 10_000, count), "times": times,
        "positive": np.ones(count, bool), "tokens": np.arange(1, count + 1),
    }  # fmt: skip
    names = [str(FIRST_USER + user) for user in range(users)]
    people = Histories(200, flat_arrays(names, (np.arange(1, users + 1) * acts).tolist(), columns))
    folder = load_settings().home / "probe"
    save_bundle(folder, *people.to_arrays())
    return {"bytes": size(folder)}


def snapshot(users: int, acts: int) -> Figures:
    """Those histories as a replica has them after its start: memory, CPU seconds of loading."""
    from movie_mlops.models.bundle import load_bundle
    from movie_mlops.models.serving.histories import Histories
    from movie_mlops.settings import load_settings

    step("store", dict(os.environ), users, acts)
    folder = load_settings().home / "probe"
    before, began = rss(), cpu()
    people = Histories.from_arrays(*load_bundle(folder), length=200)
    found = {"seconds": cpu() - began, "bytes": rss() - before}
    if people.user_count != users:  # and they live until here
        sys.exit("a user is missing")
    return found


def live(users: int, acts: int) -> Figures:
    """Histories into which so many users did so many acts since the snapshot."""
    from datetime import timedelta

    from movie_mlops.domain.interactions import Interaction, InteractionType, UserId
    from movie_mlops.domain.movies import MovieId
    from movie_mlops.events.schemas import new_event_id
    from movie_mlops.models.serving.histories import Histories

    people, start, before = Histories(200), datetime.now(UTC) - timedelta(days=1), rss()
    for act in range(acts):
        for user in range(users):
            at = start + timedelta(microseconds=act * users + user)
            people.apply(
                Interaction(
                    new_event_id(),
                    UserId(str(FIRST_USER + user)),
                    MovieId(1 + (user + act) % 5_000),
                    InteractionType.LIKE,
                    at,
                )
            )
    return {"bytes": rss() - before}


def fit(interactions: int, films: int, algorithm: str = "sequence_linear") -> Figures:
    """One fit of an algorithm on generated histories."""
    from growth import histories

    from movie_mlops.models.algorithms import create

    data = histories(interactions, films)
    before = cpu()
    arrays, _ = create(algorithm).fit(data, SEED).artifact()
    return {
        "cpu_seconds": cpu() - before,
        "peak_bytes": 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "bundle_bytes": float(sum(each.nbytes for each in arrays.values())),
    }


def answer_bytes(port: int, path: str) -> float:
    """Status line, headers and body of one answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(get(path, "Connection: close\r\n").encode())
        total = 0
        while heard := connection.recv(65_536):
            total += len(heard)
    return float(total)


def serve(home: Path, env: dict[str, str], users: int, seconds: float) -> Figures:
    """A replica: its start, its memory, what a list and an event cost it."""
    more = {key: value for key, value in env.items() if key.startswith("MOVIE_MLOPS_")}

    def command(fd: int) -> list[str]:
        return [sys.executable, "-m", "movie_mlops", "api", "--home", str(home), "--fd", str(fd)]

    rng = random.Random(SEED)  # noqa: S311 (no secret)
    people = rng.sample(range(1, users + 1), min(users, 2_000))
    paths = [f"/api/v1/recommendations?user_id={FIRST_USER + number}&k=10" for number in people]
    warm, asked = map(get, paths[: len(paths) // 10]), list(map(get, paths[len(paths) // 10 :]))
    acts = [
        post(EVENTS, {"user_id": str(FIRST_USER + rng.choice(people)), "movie_id": 1 + n % 500,
                      "interaction_type": "like"})
        for n in range(20_000)
    ]  # fmt: skip
    with serving(System("replica", command, "/v2/health/ready", 1, more)) as (port, running, took):
        idle = running[0].memory_info().rss
        load(port, list(warm), 4, 120, once=True)
        wire = answer_bytes(port, paths[0])
        before = cpu_of(running)
        lists = load(port, asked, 16, 120, once=True)  # each made anew
        after_lists = cpu_of(running)
        events = load(port, acts, 64, seconds)
        after_events = cpu_of(running)
    shown = len(paths) + 1
    exposures = size(home / "var", "exposures.db*")  # one file after the end
    answered = lists["statuses"].get("200", 0)
    if answered != len(asked) or set(events["statuses"]) != {"202"}:
        sys.exit(f"the API refused: {lists['statuses']}, {events['statuses']}")
    return {
        "start_seconds": took,
        "process_bytes": float(idle),
        "list_cpu_seconds": (after_lists - before) / answered,
        "lists_per_second": lists["per_second"],
        "event_cpu_seconds": (after_events - after_lists) / events["requests"],
        "events_per_second": events["per_second"],
        "exposure_bytes_per_list": exposures / shown,
        "list_wire_bytes": wire + len(asked[0]),
        "event_wire_bytes": float(len(acts[0])),
    }


def redis_bytes(env: dict[str, str], *, begin: bool = False) -> float:
    """What the entities in this Redis of ours take, buffers left out; `begin` empties it first."""
    from redis import Redis

    url, password = (env[f"MOVIE_MLOPS_ONLINE_STORE_{key}"] for key in ("URL", "PASSWORD"))
    with Redis.from_url(url, password=password) as client:
        if begin:
            client.flushall()
        asked = client.pipeline(transaction=False)
        for key in client.scan_iter(count=1_000):
            asked.memory_usage(key, samples=0)
        return float(sum(asked.execute()))


def observe(
    home: Path, users: int, events: int, films: int, redis: dict[str, str], told: Told
) -> dict[str, Figures]:
    """A home of this size; figures by step. `redis` is the environment of an empty Redis."""
    env, found = environment(home, films, redis), {}
    told("collect films")
    pipelines(env, "data_collection")
    told(f"simulate and publish {events:,} events")
    found["publish"] = step("publish", env, users, events)
    found["publish"]["log_bytes"] = size(home / "var", "events.db*")
    told("histories from the log")
    found["follow"] = step("follow", env)
    told("log to lake")
    found["lake"] = step("write_lake", env)
    found["lake"]["lake_bytes"] = size(home / "data" / "processed" / "events")
    cache, registry = home / "var" / "dvc", home / "var"
    before = size(cache)
    told("train")
    found["training"] = pipelines(env, "training", "rollout")
    found["training"] |= {
        "snapshot_bytes": size(cache) - before,
        "work_bytes": size(home / "var" / "work", "*/interactions.parquet"),
        "histories_bytes": size(home / "var" / "serving" / "histories"),
        "acts": size(home / "var" / "serving" / "histories", "*/movies.npy") / 8,
        "bundle_bytes": size(home / "var" / "serving" / "movie_recommender"),
        "registry_bytes": size(registry, "mlflow*/**/*") + size(registry, "mlflow.db*"),
    }
    if not found["training"]["bundle_bytes"]:
        sys.exit("training left no champion")
    told("features into Redis")
    redis_bytes(redis, begin=True)
    found["features"] = pipelines(env, "feature_engineering")
    found["features"]["redis_bytes"] = redis_bytes(redis)
    told("serve")
    found["serve"] = serve(home, env, users, 3.0)
    return found


STEPS: dict[str, Callable[..., Figures]] = {
    "publish": publish,
    "write_lake": write_lake,
    "follow": follow,
    "snapshot": snapshot,
    "live": live,
    "store": store,
    "fit": fit,
    "softmax": partial(fit, algorithm="linear_softmax"),
}

if __name__ == "__main__":
    given, *numbers = sys.argv[1:]
    print(json.dumps(STEPS[given](*map(int, numbers))))
