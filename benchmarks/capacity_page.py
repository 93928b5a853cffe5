"""What the capacity plan says: tables, the sizes at which something changes, a plot, the page."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from capacity_plan import (
    DAY_SECONDS,
    GIB,
    Constants,
    Demand,
    Line,
    Machine,
    Plan,
    first_factor,
    plan,
    redis_bytes,
    replica_bytes,
    training_peak_bytes,
)

from movie_mlops.settings import Settings

BEGIN, END = "<!-- measured -->", "<!-- /measured -->"
BAND = (0.5, 2.0)
MILLION = Demand(users=10**6, kept_events=10**8, events_per_day=10**8 / 90, films=10_000)
"""A hundred million events, which arrived over 90 days."""
DAILY = replace(MILLION, events_per_day=10.0**8, retention_days=1.0)
"""As many on a single day: each user a hundred acts, of which a day is kept in the log."""
MACHINES = (
    Machine("4 cores, 16 GiB", 4, 16 * GIB, 0.20),
    Machine("16 cores, 128 GiB", 16, 128 * GIB, 1.01),
)
"""Two common sizes of rented machines and about what they cost: assumptions."""
Machines = tuple[Machine, ...]
REDIS_LIMIT = 512 * 2**20  # `maxmemory` of the stack's configuration
BOUNDED = ("features, peak memory",)
"""Grows less than by the event: DuckDB has its own bound. Shown, and judges upwards only."""


@dataclass(frozen=True)
class Check:
    """One line of the simulation beside the arithmetic."""

    name: str
    unit: str
    predicted: float
    measured: float

    @property
    def ratio(self) -> float:
        """Measured of predicted."""
        return self.measured / self.predicted if self.predicted else math.inf

    @property
    def judges(self) -> bool:
        """Sizes and memory do; times are another tenant's as much as ours."""
        return self.unit in ("MB", "bytes")

    @property
    def holds(self) -> bool:
        """Whether it is within the band."""
        low = 0.0 if self.name in BOUNDED else BAND[0]
        return not self.judges or low <= self.ratio <= BAND[1]


ORIGINS = (
    "Three homes were made. For the plan the constants are those of the two largest; for the "
    "check they were taken from the two smallest, and predict the third."
)


def number(value: float) -> str:
    """Three figures."""
    if not value or not math.isfinite(value):
        return "0" if not value else "never"
    if abs(value) >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-3 else f"{value:.1e}"


def amount(count: float) -> str:
    """Bytes in a unit that fits."""
    for name, unit in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= unit:
            return f"{number(count / unit)} {name}"
    return f"{number(count)} B"


def duration(seconds: float) -> str:
    """Seconds in a unit that fits."""
    for name, unit in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * unit:
            return f"{number(seconds / unit)} {name}"
    return f"{number(seconds)} s"


def constants_table(c: Constants) -> str:
    """Every constant with its origin."""
    home, probe = "the largest home", "probe in a process of its own"
    both = "line through the two largest homes"

    def straight(found: Line, show: Callable[[float], str]) -> str:
        return f"{show(found.base)} + {show(found.each * 1e6)} per million events"

    kafka = amount(c.kafka_bytes_per_event) if c.kafka_bytes_per_event else "not measured"
    rows = [
        ("event in the embedded log", amount(c.log_bytes_per_event), f"{home}, file with index"),
        ("event on Kafka, one copy", kafka, "100,000 events in batches of 500; segments' files"),
        ("event in the lake (Parquet)", amount(c.lake_bytes_per_event), home),
        ("event in a snapshot's cache", amount(c.snapshot_bytes_per_event), f"{home}, first one"),
        ("event in what a training freezes", amount(c.work_bytes_per_event), home),
        ("event in the histories' file", amount(c.histories_file_bytes_per_event), home),
        ("acts that histories keep, of all events", number(c.acts_per_event), home),
        ("user in memory, snapshot", amount(c.history_bytes_per_user), f"{probe}, 3 sizes"),
        ("act in memory, snapshot", amount(c.history_bytes_per_act), f"{probe}, 3 sizes"),
        ("user in memory, since the snapshot", amount(c.live_bytes_per_user), f"{probe}, 3 sizes"),
        ("act in memory, since the snapshot", amount(c.live_bytes_per_act), f"{probe}, 3 sizes"),
        ("API process without histories", amount(c.process_bytes), f"{home}, less its histories"),
        ("start of a replica without histories", duration(c.start_seconds), home),
        ("loading them, per user", f"{1e6 * c.load_seconds_per_user:.2f} µs", f"{probe}, 3 sizes"),
        ("loading them, per act", f"{1e6 * c.load_seconds_per_act:.3f} µs", f"{probe}, 3 sizes"),
        ("one list made anew, CPU", f"{1e3 * c.list_cpu_seconds:.2f} ms", f"{home}, HTTP load"),
        ("one event taken, CPU", f"{1e3 * c.event_cpu_seconds:.2f} ms", f"{home}, HTTP load"),
        ("one event into a replica, CPU", f"{1e6 * c.follow_cpu_seconds:.0f} µs", home),
        ("one event into the lake, CPU", f"{1e6 * c.lake_cpu_seconds:.0f} µs", home),
        ("request and answer of a list", amount(c.list_wire_bytes), home),
        ("request of an event", amount(c.event_wire_bytes), home),
        ("exposure of a list", amount(c.exposure_bytes_per_list), home),
        ("training, CPU", straight(c.training_cpu_seconds, duration), f"{both}; sequence_linear"),
        ("training, peak memory", straight(c.training_peak_bytes, amount), both),
        ("more of it per pair of films", amount(c.fit_bytes_per_film_pair), f"{probe}, 2 sizes"),
        ("bundle per pair of films", amount(c.bundle_bytes_per_film_pair), f"{probe}, 2 sizes"),
        (
            "one fit of linear_softmax, CPU per event",
            f"{1e6 * c.softmax_cpu_seconds_per_event:.0f} µs",
            f"{probe}, 50,000 events, 400 films",
        ),
        ("MLflow per training, less its bundle", amount(c.registry_bytes_per_training), home),
        ("features and materialization, CPU", straight(c.features_cpu_seconds, duration), both),
        ("features, peak memory", straight(c.features_peak_bytes, amount), both),
        ("user in Redis", amount(c.redis_bytes_per_user), "difference of the two largest homes"),
        ("film in Redis", amount(c.redis_bytes_per_film), home),
        ("exposures kept at most", f"{c.exposures_kept:,}", "the code's bound, no measurement"),
        ("maps of a model, at most", amount(c.map_bytes_bound), "setting `model_memory_mb`"),
        ("solving, at most", amount(c.fit_bytes_bound), "parameter `training_memory_mb`"),
    ]
    lines = (f"| {what} | {value} | {origin} |" for what, value, origin in rows)
    return "\n".join(("| constant | value | from |", "|---|---|---|", *lines))


def column(found: Plan, d: Demand) -> dict[str, str]:
    """One demand's rows."""
    fits = "" if found.batch_fits else " — **too little memory**"
    return {
        "users": f"{d.users:,}",
        "events kept": f"{d.kept_events:,}",
        "events a day": number(d.events_per_day),
        "events a second at the peak": number(found.peak_events_per_second),
        "lists a second at the peak": number(found.peak_lists_per_second),
        "partitions of `user-events`": str(found.partitions),
        "workers": str(found.workers),
        "API processes": str(found.api_processes),
        "API machines, one spare": f"{found.api_machines} of {found.api_machine.name}",
        "memory of a replica": amount(found.replica_bytes),
        "of it since the last training": amount(found.live_bytes),
        "start of a replica": duration(found.start_seconds),
        "event log, all copies": amount(found.log_disk_bytes),
        "lake": amount(found.lake_disk_bytes),
        "snapshots": amount(found.snapshot_disk_bytes),
        "frozen for trainings": amount(found.work_disk_bytes),
        "histories' file": amount(found.histories_file_bytes),
        "MLflow, bundles and histories": amount(found.registry_disk_bytes),
        "exposures": amount(found.exposure_disk_bytes),
        "Redis": amount(found.redis_bytes),
        "training, one core": duration(found.training_cpu_seconds),
        "one fit of `linear_softmax`, one core": duration(found.softmax_cpu_seconds),
        "training, peak memory": amount(found.training_peak_bytes),
        "features, one core": duration(found.features_cpu_seconds),
        "network at the peak": f"{amount(found.peak_network_bytes_per_second)}/s",
        "trained on": found.batch_machine.name + fits,
        "machines, dollars a day": number(found.machine_dollars_per_day),
        "disks, dollars a day": number(found.disk_dollars_per_day),
        "**dollars a day**": f"**{number(found.dollars_per_day)}**",
    }


def plan_table(c: Constants, demands: list[tuple[str, Demand]], machines: Machines) -> str:
    """The plan for each demand."""
    columns = {}
    for name, demand in demands:
        try:
            columns[name] = column(plan(demand, c, machines), demand)
        except ValueError as error:
            columns[name] = {"users": f"{demand.users:,}", "API processes": f"none: {error}"}
    rows = max(columns.values(), key=len)
    lines = [f"| | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    lines += [
        f"| {row} | {' | '.join(each.get(row, '') for each in columns.values())} |" for row in rows
    ]
    return "\n".join(lines)


def limits_table(c: Constants, machines: Machines) -> str:
    """From how many users on, with as many events each, something no longer fits."""
    settings = Settings()
    small, large = machines[0], machines[-1]
    gate = settings.gate_memory_mb * 2**20

    def grown(factor: float) -> Demand:
        return MILLION.scaled(factor)

    def peak_rate(factor: float) -> float:
        return MILLION.scaled(factor).events_per_day / DAY_SECONDS * MILLION.peak_factor

    def busy(factor: float) -> float:
        lists = grown(factor).users * MILLION.lists_per_user_per_day / DAY_SECONDS
        own = peak_rate(factor) * (c.event_cpu_seconds + c.follow_cpu_seconds)
        return own + lists * MILLION.peak_factor * c.list_cpu_seconds

    def log(factor: float) -> float:
        d = grown(factor)
        return c.log_bytes_per_event * d.events_per_day * d.retention_days

    def trained(factor: float) -> float:
        d = grown(factor)
        return training_peak_bytes(c, d.kept_events, d.films)

    rows: list[tuple[str, Callable[[float], bool], str]] = [
        ("the embedded log is full (`event_log_max_bytes`)",
         lambda f: log(f) > settings.event_log_max_bytes,
         "Kafka, or a shorter `event_retention_days`"),
        ("training needs more than the gate lets pass (`gate_memory_mb`)",
         lambda f: trained(f) > gate, "raise the setting, on a machine that has the memory"),
        ("Redis has its `maxmemory` of 512 MB",
         lambda f: redis_bytes(c, grown(f).users, MILLION.films) > REDIS_LIMIT,
         "`maxmemory` in the stack's configuration"),
        ("one API process is half busy at the peak",
         lambda f: busy(f) > MILLION.utilisation, "`up --replicas`, then machines"),
        (f"training leaves {small.name}", lambda f: trained(f) > 0.8 * small.memory_bytes,
         f"train on {large.name}"),
        (f"training leaves {large.name}", lambda f: trained(f) > 0.8 * large.memory_bytes,
         "train on a window of the events, or ALS on Spark"),
        ("only one replica fits into " + small.name,
         lambda f: 2 * replica_bytes(c, grown(f)) > 0.8 * small.memory_bytes,
         "more memory for each core"),
        ("no replica fits into " + small.name,
         lambda f: replica_bytes(c, grown(f)) > 0.8 * small.memory_bytes,
         "larger machines, or users divided among replicas (not built)"),
        ("one worker is half busy at the peak",
         lambda f: peak_rate(f) * c.lake_cpu_seconds > MILLION.utilisation,
         "a second worker; it takes over partitions"),
        ("three partitions have a half busy worker each",
         lambda f: peak_rate(f) * c.lake_cpu_seconds > 3 * MILLION.utilisation,
         "more partitions of `user-events`"),
        ("a replica is half busy with following alone",
         lambda f: peak_rate(f) * c.follow_cpu_seconds > MILLION.utilisation,
         "users divided among replicas (not built)"),
    ]  # fmt: skip
    found = sorted((first_factor(holds) * MILLION.users, what, do) for what, holds, do in rows)
    lines = (f"| {number(users)} | {what} | {do} |" for users, what, do in found)
    return "\n".join(("| from users | what happens | what to set |", "|---|---|---|", *lines))


def checks_table(checks: list[Check]) -> str:
    """The simulation beside the arithmetic."""
    lines = [
        "| at the simulation's size | predicted | measured | ratio | |",
        "|---|---|---|---|---|",
    ]
    for each in checks:
        scale = 1e-6 if each.unit == "MB" else 1.0
        verdict = ("ok" if each.holds else "**outside**") if each.judges else "shown"
        lines.append(
            f"| {each.name}, {each.unit} | {number(each.predicted * scale)} "
            f"| {number(each.measured * scale)} | {each.ratio:.2f} | {verdict} |"
        )
    return "\n".join(lines)


def report(c: Constants, checks: list[Check], machines: Machines) -> str:
    """The measured part of the page."""
    demands = [
        ("10,000", MILLION.scaled(0.01)), ("100,000", MILLION.scaled(0.1)),
        ("**1,000,000**", MILLION), ("100 M a day", DAILY),
    ]  # fmt: skip
    disk = machines[0].dollars_per_disk_gib_month
    prices = " and ".join(f"{m.name} at ${m.dollars_per_hour} an hour" for m in machines)
    d = MILLION
    assumed = (
        f"Assumed, not measured: {prices}, disk at ${disk} per GiB "
        f"and month; {d.lists_per_user_per_day:g} lists per user and day, "
        f"{d.active_share_per_day:.0%} of the users act on a day, the busiest minute is "
        f"{d.peak_factor:g} times the mean, cores are {d.utilisation:.0%} busy then, events stay "
        f"{d.retention_days:g} days in the log on {d.log_copies} brokers, one training a day, "
        f"{d.kept_trainings} kept."
    )
    judged = f"half to twice ({BAND[0]} to {BAND[1]})"
    return (
        f"### Constants\n\n{ORIGINS}\n\n{constants_table(c)}\n\n### The plan\n\n{assumed}\n\n"
        f"{plan_table(c, demands, machines)}\n\n### What changes first\n\nWith a hundred events "
        f"kept of each user, as above.\n\n{limits_table(c, machines)}\n\n"
        f"### The check\n\nSizes and memory must be within {judged} of what was predicted.\n\n"
        f"{checks_table(checks)}"
    )


def draw(c: Constants, path: Path, machines: Machines) -> None:
    """Memory, machines and cost against users, on logarithmic axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3)
    sizes = [(10**3 * 10 ** (part / 4)) for part in range(21)]
    demands = [MILLION.scaled(users / MILLION.users) for users in sizes]
    plans = [_plan_or_none(c, demand, machines) for demand in demands]
    kept = [(d.users, p) for d, p in zip(demands, plans, strict=True) if p is not None]
    users = [one for one, _ in kept]
    memory = {
        "one replica": "replica_bytes",
        "training": "training_peak_bytes",
        "Redis": "redis_bytes",
    }
    for name, field in memory.items():
        left.loglog(users, [getattr(p, field) / 1e9 for _, p in kept], label=name)
    for each in machines:
        left.axhline(0.8 * each.memory_bytes / 1e9, color="0.6", linestyle=":")
    left.set(title="memory, GB", xlabel="users")
    for name, field in (("API processes", "api_processes"), ("API machines", "api_machines")):
        middle.semilogx(users, [getattr(p, field) for _, p in kept], label=name)
    middle.set(title="processes and machines", xlabel="users")
    right.loglog(users, [p.dollars_per_day for _, p in kept], label="all")
    right.loglog(users, [p.disk_dollars_per_day for _, p in kept], label="disks")
    right.set(title="dollars a day", xlabel="users")
    for axes in (left, middle, right):
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def _plan_or_none(c: Constants, demand: Demand, machines: Machines) -> Plan | None:
    try:
        return plan(demand, c, machines)
    except ValueError:
        return None


def write_page(docs: Path, text: str) -> None:
    """The measured part of `capacity.md`, whose other parts are written by hand."""
    page = docs / "capacity.md"
    written = page.read_text()
    before, after = written.split(BEGIN)[0], written.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
