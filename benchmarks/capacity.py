"""The capacity plan: constants measured small, arithmetic, and a check at a hundredth of the size.

    python benchmarks/capacity.py [--docs docs] [--kafka-home FOLDER] [--scale 0.1] [--json FILE]
    python benchmarks/capacity.py --measured FILE [--machine NAME:CORES:GIB:DOLLARS]…

Measures what an event, a user, a film, a list and a training cost in small homes, each made by the
project's own simulator, pipelines, worker and API; plans a million users and a hundred million
events with them (`capacity_plan.py`); then makes a home of 10,000 users and 1,000,000 events and
compares. Ends with 1 where a size or memory is not within half and twice what was predicted; times
are shown, and judge nothing. --scale makes all homes smaller, for a quick look. Needs Redis, and
for the figures of Kafka --kafka-home (or KAFKA_HOME). --docs writes the measured part of
`capacity.md` and `capacity.png` there.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from capacity_home import Figures, environment, observe, pipelines, size, step
from capacity_page import MACHINES, Check, draw, report, write_page
from capacity_plan import (
    GIB,
    Constants,
    Demand,
    Line,
    Machine,
    bundle_bytes,
    disks,
    live_bytes,
    redis_bytes,
    registry_bytes,
    replica_bytes,
    start_seconds,
    training_peak_bytes,
)

from movie_mlops.models.serving.exposure_store import KEPT_RECORDS
from movie_mlops.settings import Settings
from movie_mlops.stack import Stack, free_ports

USERS, EVENTS, FILMS = 10_000, 1_000_000, 2_000
SMALL, LARGER = 1 / 20, 1 / 5  # of the simulation; the constants come from these
SNAPSHOTS = ((20_000, 20), (20_000, 120), (60_000, 20))  # users, acts of each
LIVE = ((2_000, 10), (2_000, 60), (8_000, 10))
FITS = ((100_000, 1_000), (100_000, 3_000))  # interactions, films
KAFKA_EVENTS = (20_000, 100_000)
FIT_BOUND_MB = 1_536.0  # `training_memory_mb` of sequence_linear
SOFTMAX = ((50_000, 400),)
Home = dict[str, Figures]
Pair = tuple[Home, Home]


@contextmanager
def progress(steps: int) -> Iterator[Any]:
    """A bar on the terminal; called with what begins."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("start", total=steps)
        done = [-1]

        def told(text: str) -> None:
            done[0] += 1
            bar.update(task, completed=done[0], description=f"{text:<44}")
            if not bar.console.is_terminal:
                print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)

        yield told


def plane(sizes: tuple[tuple[int, int], ...], values: list[float]) -> tuple[float, float]:
    """Bytes per user and per act from three points that share a base."""
    (users, few), (_, many), (more, _) = sizes
    per_act = (values[1] - values[0]) / (users * (many - few))
    per_user = (values[2] - values[0]) / (more - users) - few * per_act
    return max(per_user, 0.0), per_act


def line(pair: Pair, name: str, key: str) -> Line:
    """Through two homes, over events."""
    small, larger = pair
    few, many = small["publish"]["events"], larger["publish"]["events"]
    slope = max(0.0, (larger[name][key] - small[name][key]) / (many - few))
    return Line(max(0.0, small[name][key] - slope * few), slope)


def probes(folder: Path, told: Any, scale: float) -> dict[str, list[Figures]]:
    """Histories in memory and fits, apart from any home."""
    env = environment(folder, FILMS)
    found: dict[str, list[Figures]] = {}
    for name, sizes in (
        ("snapshot", SNAPSHOTS),
        ("live", LIVE),
        ("fit", FITS),
        ("softmax", SOFTMAX),
    ):
        told(f"probe: {name}")
        least = max(scale, 0.2) if name in ("snapshot", "live") else 1.0
        found[name] = [step(name, env, int(first * least), second) for first, second in sizes]
    return found


def kafka_bytes(stack: Stack, home: Path, events: int) -> float:
    """Bytes of the log on Kafka for each of so many events of a fresh broker's topic."""
    env = environment(home, 300, stack.environment())
    before = size(stack.home / "var" / "stack" / "kafka" / "data", "user-events-*/*.log")
    done = step("publish", env, max(events // 100, 5), events)
    after = size(stack.home / "var" / "stack" / "kafka" / "data", "user-events-*/*.log")
    return (after - before) / done["events"]


def constants(
    pair: Pair, found: dict[str, list[Figures]], films: int, kafka: float | None
) -> Constants:
    """From two homes, the smaller one first, and the probes."""
    small, larger = pair
    events, users = larger["publish"]["events"], larger["publish"]["users"]
    trained, served = larger["training"], larger["serve"]
    share = found["scale"][0]["of"]
    at = [tuple((int(u * share), a) for u, a in each) for each in (SNAPSHOTS, LIVE)]
    past = plane(at[0], [each["bytes"] for each in found["snapshot"]])
    loading = plane(at[0], [each["seconds"] for each in found["snapshot"]])
    live = plane(at[1], [each["bytes"] for each in found["live"]])
    few, many = found["fit"]
    pairs = FITS[1][1] ** 2 - FITS[0][1] ** 2
    acts_per_event = trained["acts"] / events
    fewer = small["publish"]["users"]
    redis = [home["features"]["redis_bytes"] for home in (small, larger)]
    per_user = (redis[1] - redis[0]) / (users - fewer)
    in_memory = users * past[0] + trained["acts"] * past[1]
    to_load = users * loading[0] + trained["acts"] * loading[1]
    settings = Settings()
    return Constants(
        log_bytes_per_event=larger["publish"]["log_bytes"] / events,
        kafka_bytes_per_event=kafka,
        lake_bytes_per_event=larger["lake"]["lake_bytes"] / events,
        snapshot_bytes_per_event=trained["snapshot_bytes"] / events,
        work_bytes_per_event=trained["work_bytes"] / events,
        history_bytes_per_user=past[0],
        history_bytes_per_act=past[1],
        histories_file_bytes_per_event=trained["histories_bytes"] / events,
        live_bytes_per_user=live[0],
        live_bytes_per_act=live[1],
        process_bytes=max(0.0, served["process_bytes"] - in_memory),
        start_seconds=max(0.0, served["start_seconds"] - to_load),
        load_seconds_per_user=loading[0],
        load_seconds_per_act=loading[1],
        list_cpu_seconds=served["list_cpu_seconds"],
        event_cpu_seconds=served["event_cpu_seconds"],
        follow_cpu_seconds=larger["follow"]["cpu_seconds"] / events,
        lake_cpu_seconds=larger["lake"]["cpu_seconds"] / events,
        list_wire_bytes=served["list_wire_bytes"],
        event_wire_bytes=served["event_wire_bytes"],
        exposure_bytes_per_list=served["exposure_bytes_per_list"],
        exposures_kept=KEPT_RECORDS,
        training_cpu_seconds=line(pair, "training", "cpu_seconds"),
        training_peak_bytes=line(pair, "training", "peak_bytes"),
        softmax_cpu_seconds_per_event=found["softmax"][0]["cpu_seconds"] / SOFTMAX[0][0],
        registry_bytes_per_training=trained["registry_bytes"] - trained["bundle_bytes"] / 2,
        features_cpu_seconds=line(pair, "features", "cpu_seconds"),
        features_peak_bytes=line(pair, "features", "peak_bytes"),
        redis_bytes_per_user=per_user,
        redis_bytes_per_film=max(0.0, redis[1] - users * per_user) / films,
        acts_per_event=acts_per_event,
        bundle_bytes_per_film_pair=(many["bundle_bytes"] - few["bundle_bytes"]) / pairs,
        fit_bytes_per_film_pair=(many["peak_bytes"] - few["peak_bytes"]) / pairs,
        measured_films=films,
        map_bytes_bound=settings.model_memory_mb * 2.0**20,
        fit_bytes_bound=FIT_BOUND_MB * 2**20,
    )


def compare(c: Constants, seen: dict[str, Figures], kafka: float | None) -> list[Check]:
    """Predicted and measured, line by line, of the simulation's home."""
    events, users = seen["publish"]["events"], int(seen["publish"]["users"])
    d = Demand(
        users, int(events), events, c.measured_films,
        retention_days=1, kept_trainings=1, log_copies=1,
    )  # fmt: skip
    sizes, training, served = disks(c, d), seen["training"], seen["serve"]
    features = seen["features"]
    quiet = Demand(users, int(events), 0.0, c.measured_films, active_share_per_day=0.0)
    checks = [
        Check("event log (SQLite) on disk", "MB", sizes["log"], seen["publish"]["log_bytes"]),
        Check("lake", "MB", sizes["lake"], seen["lake"]["lake_bytes"]),
        Check("snapshot's cache", "MB", sizes["snapshot"], training["snapshot_bytes"]),
        Check("interactions of one training", "MB", sizes["work"] / 3, training["work_bytes"]),
        Check(
            "histories file", "MB", c.histories_file_bytes_per_event * events,
            training["histories_bytes"],
        ),
        Check(
            "MLflow's files and database", "MB", registry_bytes(c, d.films),
            training["registry_bytes"],
        ),
        Check("bundle and its twin", "MB", bundle_bytes(c, d.films), training["bundle_bytes"]),
        Check("exposures, one list", "bytes", c.exposure_bytes_per_list,
              served["exposure_bytes_per_list"]),
        Check("Redis", "MB", redis_bytes(c, users, d.films), features["redis_bytes"]),
        Check(
            "histories of all events, followed live", "MB", live_bytes(c, users, events),
            seen["follow"]["live_bytes"],
        ),
        Check("a replica after its start", "MB", replica_bytes(c, quiet), served["process_bytes"]),
        Check("training, peak memory", "MB", training_peak_bytes(c, events, d.films),
              training["peak_bytes"]),
        Check("features, peak memory", "MB", c.features_peak_bytes.at(events),
              features["peak_bytes"]),
        Check("training", "CPU s", c.training_cpu_seconds.at(events), training["cpu_seconds"]),
        Check("features into Redis", "CPU s", c.features_cpu_seconds.at(events),
              features["cpu_seconds"]),
        Check("log to lake", "CPU s", c.lake_cpu_seconds * events, seen["lake"]["cpu_seconds"]),
        Check("log to histories", "CPU s", c.follow_cpu_seconds * events,
              seen["follow"]["cpu_seconds"]),
        Check("start of a replica", "s", start_seconds(c, users, c.acts_per_event * events),
              served["start_seconds"]),
        Check("one list, made anew", "CPU s", c.list_cpu_seconds, served["list_cpu_seconds"]),
        Check("one event, taken", "CPU s", c.event_cpu_seconds, served["event_cpu_seconds"]),
    ]  # fmt: skip
    if kafka is not None and c.kafka_bytes_per_event is not None:
        checks.insert(
            1, Check("one event on Kafka's disk", "bytes", c.kafka_bytes_per_event, kafka)
        )
    return checks


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Homes and probes, on engines of their own."""
    given = options.kafka_home or os.environ.get("KAFKA_HOME")
    kafka_home = Path(given) if given else None
    stack = Stack(folder / "stack", free_ports(), kafka_home=kafka_home)
    kafka: list[float | None] = [None, None]
    homes: dict[str, Home] = {}
    began = time.monotonic()
    try:
        with progress(5 + 3 * 7 + (2 if kafka_home else 0)) as told:
            told("start Redis" + (" and Kafka" if kafka_home else ""))
            stack.up(["redis", "kafka"] if kafka_home else ["redis"])
            engines = stack.environment()
            redis = {key: value for key, value in engines.items() if "ONLINE_STORE" in key}
            found = probes(folder / "probes", told, options.scale)
            for name, share in (("small", SMALL), ("larger", LARGER), ("simulation", 1.0)):
                home, of = folder / name, share * options.scale
                homes[name] = observe(
                    home, round(USERS * of), round(EVENTS * of), options.films, redis,
                    lambda text, name=name: told(f"{name}: {text}"),
                )  # fmt: skip
                shutil.rmtree(home)
            if kafka_home:
                pipelines(environment(folder / "k", 300), "data_collection")
                for number, events in enumerate(KAFKA_EVENTS):
                    told(f"Kafka: {events:,} events")
                    kafka[number] = kafka_bytes(stack, folder / "k", events)
            told("done")
    finally:
        stack.down()
    return {
        "homes": homes,
        "probes": found,
        "kafka": kafka,
        "films": options.films,
        "scale": options.scale,
        "minutes": (time.monotonic() - began) / 60,
    }


def derive(measured: dict[str, Any]) -> tuple[Constants, list[Check]]:
    """Constants for the plan, from the two largest homes; and those of the smallest, checked."""
    probed = measured["probes"] | {"scale": [{"of": max(measured["scale"], 0.2)}]}
    small, larger, last = (measured["homes"][name] for name in ("small", "larger", "simulation"))
    first, second = measured["kafka"]
    predicting = constants((small, larger), probed, measured["films"], first)
    planning = constants((larger, last), probed, measured["films"], second)
    return planning, compare(predicting, last, second)


def machine(text: str) -> Machine:
    """NAME:CORES:GIB:DOLLARS."""
    name, cores, memory, dollars = text.split(":")
    return Machine(name, int(cores), float(memory) * GIB, float(dollars))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="of all homes; 0.1 is quick")
    parser.add_argument("--films", type=int, default=FILMS)
    parser.add_argument("--kafka-home", type=Path, help="where Apache Kafka lies")
    parser.add_argument(
        "--machine", type=machine, action="append", dest="machines",
        help="NAME:CORES:GIB:DOLLARS-AN-HOUR instead of the two assumed; may be given again",
    )  # fmt: skip
    parser.add_argument("--docs", type=Path, help="write capacity.md and capacity.png there")
    parser.add_argument("--json", type=Path, help="write everything that was measured")
    parser.add_argument("--measured", type=Path, help="such a file, instead of measuring")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary one by default")
    options = parser.parse_args()
    if options.measured:
        measured = json.loads(options.measured.read_text())
    else:
        with tempfile.TemporaryDirectory(
            prefix="movie-mlops-capacity-", dir=options.folder
        ) as made:
            folder = Path(made).resolve()
            folder.chmod(0o755)
            measured = measure(options, folder)
    c, checks = derive(measured)
    if options.json:
        options.json.write_text(json.dumps(measured | {"constants": asdict(c)}, indent=1))
    machines = tuple(options.machines or MACHINES)
    text = report(c, checks, machines)
    text += f"\n\nOne run at scale {measured['scale']:g}, {measured['minutes']:.0f} minutes."
    print(text)
    if options.docs:
        write_page(options.docs, text)
        draw(c, options.docs / "capacity.png", machines)
    if outside := [each.name for each in checks if not each.holds]:
        sys.exit(f"outside half to twice what was predicted: {', '.join(outside)}")


if __name__ == "__main__":
    main()
