"""An hour of simulated people within minutes: is anything lost, does anything grow without bound?

A fresh home of the sample, real API and worker processes as `up` starts them. People of the
simulation (more than the model was trained on) do what their tastes say; every event has an id of
its own, one in a hundred is sent twice; lists are read beside. A process of its own sends over
keep-alive connections, the next request when the answer is there. Every 0.2 s a probe likes a film
and asks, on a new connection each time, until a list without that film comes: the lag.

Afterwards: every acknowledged id must be in the lake once, and the histories that a replica
follows from the log must equal those made from the lake. Ends with 1 if not.

    python benchmarks/soak.py --docs docs/benchmarks
    python benchmarks/soak.py --events 20000
    python benchmarks/soak.py --events-url kafka://127.0.0.1:9092/soak.
"""

import argparse
import asyncio
import http.client
import json
import multiprocessing
import random
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil

from movie_mlops.cli.demo_house import DemoHouse, demo_settings
from movie_mlops.data.processors.population import draw_population
from movie_mlops.data.processors.tastes import simulate_interactions
from movie_mlops.events.schemas import USER_EVENTS
from movie_mlops.features.engineering.interaction_features import all_interactions
from movie_mlops.models.algorithms import load as load_model
from movie_mlops.models.serving.follower import HistoriesFollower
from movie_mlops.models.serving.histories import Histories
from movie_mlops.models.serving.model_loader import ModelLoader
from movie_mlops.settings import turn_off_telemetry

EVENTS = "/api/v1/events/user-interaction"
HOUR_US = 3_600_000_000
WATCHES, ACTS_PER_WATCH = 60, 2.3
REPEATS, LATEST = 0.01, 5_000  # who tries again does so soon; Kafka's readers rely on it
PROBE_SECONDS = 0.2


@dataclass
class Plan:
    """What is sent: columns of acts in order of time; `reads` lists for each event."""

    users: np.ndarray
    films: np.ndarray
    kinds: np.ndarray
    ratings: np.ndarray
    times: np.ndarray
    reads: float
    port: int
    connections: int
    result: Path


@dataclass
class Sent:
    """What came of it."""

    acknowledged: np.ndarray
    status: Counter[str] = field(default_factory=Counter)
    repeated: Counter[str] = field(default_factory=Counter)
    event_ms: list[float] = field(default_factory=list)
    list_ms: list[float] = field(default_factory=list)


class Sender:
    """Gives connections their next request: an event, the same one again, or a list."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.sent = Sent(np.zeros(len(plan.users), bool))
        self.open = 0
        self.done = asyncio.Event()
        self._next = 0
        self._again: deque[int] = deque()
        self._rng = random.Random(7)  # noqa: S311 (no secret)

    def take(self) -> tuple[str, int, bytes] | None:
        """Kind, number and bytes of the next request; None when all events are acknowledged."""
        share = self.plan.reads / (1 + self.plan.reads)
        if self._rng.random() < share and self._next < len(self.plan.users):
            return "list", 0, self._list()
        if self._next and self._rng.random() < REPEATS:
            number = self._rng.randrange(max(0, self._next - LATEST), self._next)
            if self.sent.acknowledged[number]:
                return "repeat", number, self._event(number)
        if self._again:
            number = self._again.popleft()
        elif self._next < len(self.plan.users):
            number, self._next = self._next, self._next + 1
        else:
            return None
        return "event", number, self._event(number)

    def note(self, kind: str, number: int, status: str, body: bytes, seconds: float) -> None:
        """What was answered; what was refused is sent again under its id."""
        sent = self.sent
        sent.status[f"{kind} {status}"] += 1
        if kind == "list":
            sent.list_ms.append(1000 * seconds)
        elif kind == "repeat":
            sent.repeated["duplicate" if b'"duplicate"' in body else status] += 1
        elif status == "202":
            sent.acknowledged[number] = True
            sent.event_ms.append(1000 * seconds)
        else:
            self._again.append(number)

    def closed(self) -> None:
        """One connection less."""
        self.open -= 1
        if not self.open:
            self.done.set()

    def _list(self) -> bytes:
        user = self.plan.users[self._rng.randrange(self._next + 1)]
        path = f"/api/v1/recommendations?user_id={user}&k=10"
        return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()

    def _event(self, number: int) -> bytes:
        plan = self.plan
        body: dict[str, Any] = {
            "event_id": f"soak-{number}",
            "user_id": str(plan.users[number]),
            "movie_id": int(plan.films[number]),
            "interaction_type": str(plan.kinds[number]),
            "timestamp": datetime.fromtimestamp(plan.times[number] / 1e6, UTC).isoformat(),
        }
        if not np.isnan(plan.ratings[number]):
            body["rating"] = float(plan.ratings[number])
        text = json.dumps(body)
        head = f"POST {EVENTS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        return f"{head}Content-Length: {len(text)}\r\n\r\n{text}".encode()


class Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self, sender: Sender) -> None:
        self._sender, self._buffer = sender, b""
        self._asked: tuple[str, int, bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = transport
        self._sender.open += 1
        self._send()

    def data_received(self, data: bytes) -> None:
        """Note the answer when it is whole, then send the next request."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        at = self._buffer.find(b"content-length: ", 0, end)
        length = int(self._buffer[at + 16 : self._buffer.find(b"\r", at)]) if at >= 0 else 0
        if len(self._buffer) < end + 4 + length:
            return
        answer, self._buffer = self._buffer, b""
        kind, number, _ = self._asked or ("list", 0, b"")
        seconds, status = time.perf_counter() - self._sent_at, answer[9:12].decode()
        self._sender.note(kind, number, status, answer[end:], seconds)
        if status in ("429", "503"):
            asyncio.get_running_loop().call_later(0.5, self._send)
        else:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        """Whatever was under way is not acknowledged: it is sent again by another one."""
        del exc
        if self._asked is not None:
            kind, number, _ = self._asked
            self._sender.note(kind, number, "broken", b"", 0.0)
        self._sender.closed()

    def _send(self) -> None:
        self._asked = self._sender.take()
        if self._asked is None:
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(self._asked[2])  # type: ignore[attr-defined]


async def send_all(plan: Plan) -> Sent:
    """All events of the plan, each until it is acknowledged."""
    sender, loop = Sender(plan), asyncio.get_running_loop()
    for _ in range(plan.connections):
        await loop.create_connection(lambda: Connection(sender), "127.0.0.1", plan.port)
        await asyncio.sleep(0.002)  # one by one, so that all replicas get some
    await sender.done.wait()
    return sender.sent


def send(plan: Plan) -> None:
    """The sending process."""
    import uvloop

    began = time.monotonic()
    sent = uvloop.run(send_all(plan))
    np.savez(
        plan.result,
        seconds=time.monotonic() - began,
        acknowledged=sent.acknowledged,
        event_ms=sent.event_ms,
        list_ms=sent.list_ms,
        counts=json.dumps({"status": sent.status, "repeated": sent.repeated}),
    )


def traffic(house: DemoHouse, count: int, **how: Any) -> Plan:
    """Acts of enough people, the latest of their simulated lives, within one hour before now."""
    people = max(int(count / WATCHES / ACTS_PER_WATCH), house.settings.sample_people)
    population = draw_population(house.services.lake.read("movies"), people, 7)
    acts = simulate_interactions(population, datetime.now(UTC), WATCHES).tail(count)
    end = time.time_ns() // 1_000
    times = end - HOUR_US + np.arange(len(acts)) * HOUR_US // max(len(acts), 1)
    return Plan(
        users=acts["user_id"].cast(int).to_numpy() + 1_000_000,  # nobody the model knows
        films=acts["movie_id"].to_numpy(),
        kinds=acts["interaction_type"].to_numpy(),
        ratings=acts["rating"].fill_null(float("nan")).to_numpy(),
        times=times,
        **how,
    )


class Watch(threading.Thread):
    """Memory of each process every second, and the lag that the probe sees."""

    def __init__(self, house: DemoHouse) -> None:
        super().__init__(daemon=True)
        self._house, self._over = house, threading.Event()
        self.seconds: list[float] = []
        self.memory: dict[str, list[float]] = {name: [] for name in house.pids()}
        self.lags: list[float] = []
        self.likes = 0

    def stop(self) -> None:
        """End after the probe at hand."""
        self._over.set()
        self.join()

    def run(self) -> None:
        """Until `stop`."""
        began = time.monotonic()
        looked = 0.0
        while not self._over.wait(PROBE_SECONDS):
            now = time.monotonic()
            if now - looked >= 1:
                looked = now
                self.seconds.append(now - began)
                for name, pid in self._house.pids().items():
                    self.memory[name].append(psutil.Process(pid).memory_info().rss / 2**20)
            self._probe()

    def _probe(self) -> None:
        user = f"probe-{self.likes % 50}"
        films = self._list(user)
        body = {"user_id": user, "movie_id": films[0], "interaction_type": "like"}
        self._house.call(EVENTS, body)
        acknowledged = time.perf_counter()
        self.likes += 1
        while films[0] in self._list(user):
            if time.perf_counter() - acknowledged > 60:
                sys.exit("a like did not reach the lists within a minute")
        self.lags.append(1000 * (time.perf_counter() - acknowledged))

    def _list(self, user: str) -> list[int]:
        connection = http.client.HTTPConnection("127.0.0.1", self._house.port, timeout=60)
        connection.request("GET", f"/api/v1/recommendations?user_id={user}&k=10")
        items = json.loads(connection.getresponse().read())["items"]
        connection.close()
        return [item["movie_id"] for item in items]


def is_written(house: DemoHouse) -> bool:
    """Whether the worker has brought the whole log into the lake."""
    written = house.services.lake.event_positions(USER_EVENTS)
    ends = house.services.log.end_positions([USER_EVENTS])
    return all(written.get(place.partition, 0) >= end for place, end in ends.items())


def check(house: DemoHouse, acknowledged: np.ndarray) -> dict[str, int]:
    """What was lost, what is there twice, and whose history is another by log than by lake."""
    rows = house.services.lake.events(USER_EVENTS).filter(
        pl.col("event_id").str.starts_with("soak-")
    )
    numbers = rows["event_id"].str.slice(5).cast(pl.Int64).to_numpy()
    there = np.bincount(numbers, minlength=len(acknowledged))
    length = house.settings.history_length
    by_log = Histories(length)
    loader = ModelLoader(house.services.serving, load_model)
    loader.reload()
    serving = house.services.serving
    HistoriesFollower(by_log, house.services.log, loader, serving, "soak-check").catch_up()
    acts = all_interactions(house.services.lake)
    by_lake = Histories.from_frame(acts, length)
    users = acts["user_id"].unique().to_list()
    different = 0
    for user in users:
        one, other = by_log.of(user), by_lake.of(user)
        same = np.array_equal(one.films, other.films)
        different += not (same and set(one.hidden.tolist()) == set(other.hidden.tolist()))
    return {
        "acknowledged": int(acknowledged.sum()),
        "missing": int((acknowledged & (there == 0)).sum()),
        "twice": int((there > 1).sum()),
        "viewers": len(users),
        "different": different,
    }


def files(home: Path) -> dict[str, float]:
    """Size in MB of what grows."""

    def size(*patterns: str) -> float:
        found = {path for pattern in patterns for path in home.glob(pattern) if path.is_file()}
        return sum(path.stat().st_size for path in found) / 2**20

    return {
        "event log": size("var/events.db*"),
        "lake": size("data/processed/events/*"),
        "exposures": size("var/exposures.db*"),
        "access logs": size("var/logs/*"),
    }


def percentiles(values: Any) -> dict[str, float]:
    """Middle and tail."""
    found = np.asarray(values, float)
    if not len(found):
        return {"p50": float("nan"), "p99": float("nan"), "max": float("nan")}
    p50, p99 = np.percentile(found, (50, 99))
    return {"p50": float(p50), "p99": float(p99), "max": float(found.max())}


def soak(options: argparse.Namespace, home: Path) -> dict[str, Any]:
    """Everything; the figures."""
    more = {"event_log_max_bytes": 50_000_000_000}
    if options.events_url:
        more["events_url"] = options.events_url
    settings = demo_settings(home, rollout_mode="immediate", **more)
    with DemoHouse(settings, options.replicas) as house:
        print("collect, train, start", file=sys.stderr, flush=True)
        list(house.run("data_collection", "training", "rollout", report=lambda *_: None))
        house.start()
        path = "/api/v1/recommendations?user_id=1"
        house.wait_for("a list", lambda: house.call(path)["path"] == "personal")
        result = home / "sent.npz"
        how = {"connections": options.connections, "port": house.port, "result": result}
        plan = traffic(house, options.events, reads=options.reads, **how)
        print(f"{len(plan.users):,} events", file=sys.stderr, flush=True)
        sender = multiprocessing.get_context("spawn").Process(target=send, args=(plan,))
        watch = Watch(house)
        sender.start()
        watch.start()
        sender.join()
        watch.stop()
        if sender.exitcode:
            sys.exit(f"the sender ended with {sender.exitcode}")
        pids = house.pids()
        behind = house.wait_for("all events in the lake", lambda: is_written(house))
        time.sleep(1)
        sent = np.load(result)
        found = check(house, sent["acknowledged"])
        if pids != house.pids():
            sys.exit("a process ended under way; see its log")
    return {
        "engine": settings.events_url.partition(":")[0],
        "replicas": options.replicas,
        "connections": options.connections,
        "sent": len(plan.users),
        "seconds": float(sent["seconds"]),
        "counts": json.loads(str(sent["counts"])),
        "event_ms": percentiles(sent["event_ms"]),
        "list_ms": percentiles(sent["list_ms"]),
        "lists": len(sent["list_ms"]),
        "lag_ms": percentiles(watch.lags),
        "probes": len(watch.lags),
        "lake_behind_seconds": behind,
        "memory_seconds": watch.seconds,
        "memory_mb": watch.memory,
        "files_mb": files(home),
        **found,
    }


def table(found: dict[str, Any]) -> str:
    """The figures as Markdown."""

    def ms(name: str) -> str:
        return f"{found[name]['p50']:.1f} / {found[name]['p99']:.1f} / {found[name]['max']:.0f} ms"

    rows = [
        ("event log", found["engine"]),
        ("API processes, connections", f"{found['replicas']}, {found['connections']}"),
        ("events acknowledged of sent", f"{found['acknowledged']:,} of {found['sent']:,}"),
        ("time, events a second", f"{found['seconds']:.0f} s, {_rate(found):,.0f}"),
        ("lists beside them", f"{found['lists']:,}"),
        ("the same event again, as answered", json.dumps(found["counts"]["repeated"])),
        ("answers by kind and status", json.dumps(found["counts"]["status"])),
        ("event to 202, p50 / p99 / max", ms("event_ms")),
        ("list, p50 / p99 / max", ms("list_ms")),
        (f"like to list, {found['probes']} probes", ms("lag_ms")),
        ("lake complete after the last event", f"{found['lake_behind_seconds']:.1f} s"),
        ("acknowledged and not in the lake", str(found["missing"])),
        ("in the lake twice", str(found["twice"])),
        ("viewers; histories by log unlike by lake", f"{found['viewers']:,}; {found['different']}"),
    ]
    for name, values in found["memory_mb"].items():
        at = [values[int(part * (len(values) - 1))] for part in (0, 0.25, 0.5, 0.75, 1)]
        shown = " → ".join(f"{value:.0f}" for value in at)
        rows.append((f"{name}: MB at 0, 25, 50, 75, 100 %", shown))
    rows += [(f"size of {name}", f"{value:.1f} MB") for name, value in found["files_mb"].items()]
    lines = ["| what | measured |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    return "\n".join(lines)


def _rate(found: dict[str, Any]) -> float:
    return float(found["acknowledged"] / found["seconds"])


def plot(found: dict[str, Any], path: Path) -> None:
    """Memory over time."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    for name, values in found["memory_mb"].items():
        axes.plot(found["memory_seconds"], values, label=name)
    axes.set(xlabel="seconds", ylabel="resident memory, MB", ylim=(0, None))
    axes.set_title(f"{found['acknowledged']:,} events, {found['lists']:,} lists", loc="left")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def write_docs(found: dict[str, Any], folder: Path) -> None:
    """`soak.md` and its picture; for a broker `soak-kafka.md`."""
    name = "soak" if found["engine"] == "sqlite" else f"soak-{found['engine']}"
    plot(found, folder / f"{name}.png")
    text = f"""# Soak: an hour of people within minutes

<!-- Written by `python benchmarks/soak.py --docs docs/benchmarks`. -->

{(__doc__ or "").split(chr(10), 2)[2].split("    python")[0].strip()}

One run on {psutil.cpu_count()} cores that API, worker and sender share.

{table(found)}

![memory]({name}.png)
"""
    (folder / f"{name}.md").write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--reads", type=float, default=0.5, help="lists for each event")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--replicas", type=int, default=1, help="API processes")
    parser.add_argument("--events-url", help="default: SQLite in the home")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--docs", type=Path, help="write soak.md and soak.png here")
    options = parser.parse_args()
    turn_off_telemetry()
    with tempfile.TemporaryDirectory(prefix="movie-mlops-soak-") as folder:
        found = soak(options, Path(folder))
    print(table(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    if options.docs:
        write_docs(found, options.docs)
    if found["missing"] or found["twice"] or found["different"]:
        sys.exit("something was lost or counted twice")


if __name__ == "__main__":
    main()
