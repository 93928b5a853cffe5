"""The arithmetic of the capacity plan: demand and constants in, machines, memory and cost out.

Pure functions; units stand in the names, bytes are bytes and `day` is 86,400 seconds. Where a
constant comes from says `capacity.py`, which measures them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil

DAY_SECONDS = 86_400
GIB = 2**30
LEAST_PARTITIONS = 3  # what the topics have


@dataclass(frozen=True)
class Line:
    """Something that costs `base` and so much for each."""

    base: float
    each: float

    def at(self, count: float) -> float:
        """What so many cost."""
        return self.base + self.each * count


@dataclass(frozen=True)
class Constants:
    """What was measured; a `Line` over events is taken with as many films as the plan has."""

    log_bytes_per_event: float
    kafka_bytes_per_event: float | None
    lake_bytes_per_event: float
    snapshot_bytes_per_event: float
    work_bytes_per_event: float
    """What a training freezes of the interactions."""
    history_bytes_per_user: float
    history_bytes_per_act: float
    histories_file_bytes_per_event: float
    live_bytes_per_user: float
    live_bytes_per_act: float
    """Of what came after the histories' last snapshot."""
    process_bytes: float
    """One API process with an empty history."""
    start_seconds: float
    """Of a replica without histories."""
    load_seconds_per_user: float
    load_seconds_per_act: float
    list_cpu_seconds: float
    event_cpu_seconds: float
    follow_cpu_seconds: float
    """One event into the histories of one replica."""
    lake_cpu_seconds: float
    """One event into the lake, by the worker."""
    list_wire_bytes: float
    event_wire_bytes: float
    exposure_bytes_per_list: float
    exposures_kept: int
    training_cpu_seconds: Line
    training_peak_bytes: Line
    softmax_cpu_seconds_per_event: float
    """Of one fit of the slow member of the blend."""
    registry_bytes_per_training: float
    """MLflow's folder and database, without the bundle in it."""
    acts_per_event: float
    """Share of events that histories keep: those that hide a film."""
    bundle_bytes_per_film_pair: float
    fit_bytes_per_film_pair: float
    measured_films: int
    """With so many films the lines of training were measured."""
    map_bytes_bound: float
    """The settings' bound on a model's maps when served; rarely watched films are left out."""
    fit_bytes_bound: float
    """The algorithm's bound on what it solves in."""
    features_cpu_seconds: Line
    features_peak_bytes: Line
    redis_bytes_per_user: float
    redis_bytes_per_film: float


@dataclass(frozen=True)
class Demand:
    """What is asked of the house."""

    users: int
    kept_events: int
    events_per_day: float
    films: int
    lists_per_user_per_day: float = 2.0
    active_share_per_day: float = 0.2
    """Of the users, those who act on a day."""
    peak_factor: float = 5.0
    """The busiest minute beside the mean of the day."""
    retention_days: float = 90.0
    """Of the event log."""
    trainings_per_day: float = 1.0
    kept_trainings: int = 30
    log_copies: int = 3
    """Replicas of a partition; 1 in the embedded log."""
    spare_replicas: int = 1
    """API machines that may fail at the busiest minute."""
    utilisation: float = 0.5
    """Of a core at the busiest minute."""

    def scaled(self, factor: float) -> "Demand":
        """So many times the users and what they do; as many films."""
        return replace(
            self,
            users=round(self.users * factor),
            kept_events=round(self.kept_events * factor),
            events_per_day=self.events_per_day * factor,
        )


@dataclass(frozen=True)
class Machine:
    """One size of rented machine; its prices are assumptions, not measurements."""

    name: str
    cores: int
    memory_bytes: float
    dollars_per_hour: float
    dollars_per_disk_gib_month: float = 0.10


@dataclass(frozen=True)
class Plan:
    """What the demand needs."""

    peak_events_per_second: float
    peak_lists_per_second: float
    partitions: int
    workers: int
    api_processes: int
    api_machines: int
    replica_bytes: float
    live_bytes: float
    start_seconds: float
    log_disk_bytes: float
    lake_disk_bytes: float
    snapshot_disk_bytes: float
    work_disk_bytes: float
    histories_file_bytes: float
    bundle_bytes: float
    registry_disk_bytes: float
    exposure_disk_bytes: float
    redis_bytes: float
    training_cpu_seconds: float
    softmax_cpu_seconds: float
    training_peak_bytes: float
    features_cpu_seconds: float
    features_peak_bytes: float
    peak_network_bytes_per_second: float
    api_machine: Machine
    batch_machine: Machine
    batch_hours_per_day: float
    batch_fits: bool
    """Whether training and features fit into the memory of the largest machine that is known."""
    machine_dollars_per_day: float
    disk_dollars_per_day: float

    @property
    def disk_bytes(self) -> float:
        """Everything that lies on a disk."""
        return (
            self.log_disk_bytes
            + self.lake_disk_bytes
            + self.snapshot_disk_bytes
            + self.work_disk_bytes
            + self.registry_disk_bytes
            + self.exposure_disk_bytes
        )

    @property
    def dollars_per_day(self) -> float:
        """Machines and disks."""
        return self.machine_dollars_per_day + self.disk_dollars_per_day


def histories_bytes(c: Constants, users: float, acts: float) -> float:
    """Memory of the histories of a snapshot."""
    return users * c.history_bytes_per_user + acts * c.history_bytes_per_act


def live_bytes(c: Constants, users: float, events: float) -> float:
    """Memory of what came since, by so many users."""
    return users * c.live_bytes_per_user + events * c.acts_per_event * c.live_bytes_per_act


def bundle_bytes(c: Constants, films: int) -> float:
    """The champion with its twin."""
    return 2 * min(c.bundle_bytes_per_film_pair * films**2, c.map_bytes_bound)


def registry_bytes(c: Constants, films: int) -> float:
    """What MLflow keeps of one training."""
    return c.registry_bytes_per_training + bundle_bytes(c, films) / 2


def start_seconds(c: Constants, users: float, acts: float) -> float:
    """From the start of a process to its first answer, with the histories of a snapshot."""
    return c.start_seconds + users * c.load_seconds_per_user + acts * c.load_seconds_per_act


def training_peak_bytes(c: Constants, events: float, films: int) -> float:
    """The process that trains: rows, and the normal equations of the films it models."""

    def solved(count: int) -> float:
        return min(c.fit_bytes_per_film_pair * count**2, c.fit_bytes_bound)

    return c.training_peak_bytes.at(events) + max(0.0, solved(films) - solved(c.measured_films))


def replica_bytes(c: Constants, d: Demand) -> float:
    """One API process just before the next training takes its live events into the snapshot."""
    days = 1 / d.trainings_per_day
    active = d.users * min(1.0, d.active_share_per_day * days)
    live = live_bytes(c, active, d.events_per_day * days)
    maps = (bundle_bytes(c, d.films) - bundle_bytes(c, c.measured_films)) / 2
    past = histories_bytes(c, d.users, c.acts_per_event * d.kept_events)
    return c.process_bytes + max(0.0, maps) + past + live


def redis_bytes(c: Constants, users: float, films: float) -> float:
    """Latest features of all entities."""
    return users * c.redis_bytes_per_user + films * c.redis_bytes_per_film


def peak_per_second(per_day: float, factor: float) -> float:
    """The busiest minute of a day."""
    return per_day / DAY_SECONDS * factor


def workers(c: Constants, d: Demand) -> int:
    """Worker processes that keep up with the busiest minute."""
    busy = peak_per_second(d.events_per_day, d.peak_factor) * c.lake_cpu_seconds
    return max(1, ceil(busy / d.utilisation))


def partitions(c: Constants, d: Demand) -> int:
    """At least one for each worker: a member of the group has whole partitions."""
    return max(LEAST_PARTITIONS, workers(c, d))


def api_processes(c: Constants, d: Demand) -> int:
    """Processes, one core each, that answer at the busiest minute; each follows every event."""
    events = peak_per_second(d.events_per_day, d.peak_factor)
    lists = peak_per_second(d.users * d.lists_per_user_per_day, d.peak_factor)
    shared = events * c.event_cpu_seconds + lists * c.list_cpu_seconds
    own = events * c.follow_cpu_seconds
    if own >= d.utilisation:
        message = f"{events:,.0f} events/s take the whole process that follows them: shard users"
        raise ValueError(message)
    return max(1, ceil(shared / (d.utilisation - own)))


def api_machines(c: Constants, d: Demand, machine: Machine) -> int:
    """Machines for these processes by cores and by memory, and the spare ones.

    Raises:
        ValueError: one process does not fit into the machine.
    """
    most = min(machine.cores, int(0.8 * machine.memory_bytes / replica_bytes(c, d)))
    if most < 1:
        message = f"one replica does not fit into {machine.name}"
        raise ValueError(message)
    return ceil(api_processes(c, d) / most) + d.spare_replicas


def disks(c: Constants, d: Demand) -> dict[str, float]:
    """Bytes on disk by what they are."""
    per_event = c.log_bytes_per_event
    if d.log_copies > 1 and c.kafka_bytes_per_event is not None:
        per_event = c.kafka_bytes_per_event
    lists = d.users * d.lists_per_user_per_day
    return {
        "log": per_event * d.events_per_day * d.retention_days * d.log_copies,
        "lake": c.lake_bytes_per_event * d.kept_events,
        "snapshot": c.snapshot_bytes_per_event * d.kept_events,
        "work": 3 * c.work_bytes_per_event * d.kept_events,  # two are kept, one is made
        "registry": registry_bytes(c, d.films) * d.kept_trainings
        + c.histories_file_bytes_per_event * d.kept_events,
        "exposure": c.exposure_bytes_per_list * min(lists, c.exposures_kept),
    }


def network_bytes_per_second(c: Constants, d: Demand) -> float:
    """At the busiest minute: answers, events in, and each event to its copies and readers."""
    events = peak_per_second(d.events_per_day, d.peak_factor)
    lists = peak_per_second(d.users * d.lists_per_user_per_day, d.peak_factor)
    per_event = c.kafka_bytes_per_event or c.log_bytes_per_event
    readers = d.log_copies + api_processes(c, d) + 1
    return lists * c.list_wire_bytes + events * (c.event_wire_bytes + readers * per_event)


def batch_machine(needed_bytes: float, machines: tuple[Machine, ...]) -> tuple[Machine, bool]:
    """The smallest machine whose memory holds it; else the largest, and False."""
    by_size = sorted(machines, key=lambda each: each.memory_bytes)
    fitting = [each for each in by_size if 0.8 * each.memory_bytes >= needed_bytes]
    return (fitting[0], True) if fitting else (by_size[-1], False)


def api_machine(c: Constants, d: Demand, machines: tuple[Machine, ...]) -> Machine:
    """The machine with which serving costs least.

    Raises:
        ValueError: one process does not fit into any of them.
    """
    prices = {}
    for each in machines:
        if 0.8 * each.memory_bytes >= replica_bytes(c, d):
            prices[each] = api_machines(c, d, each) * each.dollars_per_hour
    if not prices:
        message = f"a replica of {replica_bytes(c, d) / GIB:,.0f} GiB fits into no machine"
        raise ValueError(message)
    return min(prices, key=prices.__getitem__)


def plan(d: Demand, c: Constants, known: tuple[Machine, ...]) -> Plan:
    """Everything, on these machines; what trains and computes features is paid by the hour.

    Raises:
        ValueError: one process cannot do what each must do itself, or fits nowhere.
    """
    api = api_machine(c, d, known)
    sizes = disks(c, d)
    training = c.training_cpu_seconds.at(d.kept_events)
    features = c.features_cpu_seconds.at(d.kept_events)
    fitting = training_peak_bytes(c, d.kept_events, d.films)
    peak = max(fitting, c.features_peak_bytes.at(d.kept_events))
    chosen, fits = batch_machine(peak, known)
    hours = (training + features) * d.trainings_per_day / 3600
    machines, days_live = api_machines(c, d, api), 1 / d.trainings_per_day
    # beside the API: brokers, one machine with worker, Redis and MLflow, and the hours of training
    others = (d.log_copies if d.log_copies > 1 else 0) + 1
    cheapest = min(each.dollars_per_hour for each in known)
    machine_dollars = 24 * (api.dollars_per_hour * machines + cheapest * others)
    machine_dollars += min(hours, 24) * chosen.dollars_per_hour
    active = d.users * min(1.0, d.active_share_per_day * days_live)
    return Plan(
        peak_events_per_second=peak_per_second(d.events_per_day, d.peak_factor),
        peak_lists_per_second=peak_per_second(d.users * d.lists_per_user_per_day, d.peak_factor),
        partitions=partitions(c, d),
        workers=workers(c, d),
        api_processes=api_processes(c, d),
        api_machines=machines,
        replica_bytes=replica_bytes(c, d),
        live_bytes=live_bytes(c, active, d.events_per_day * days_live),
        start_seconds=start_seconds(c, d.users, c.acts_per_event * d.kept_events)
        + c.follow_cpu_seconds * d.events_per_day * days_live,
        log_disk_bytes=sizes["log"],
        lake_disk_bytes=sizes["lake"],
        snapshot_disk_bytes=sizes["snapshot"],
        work_disk_bytes=sizes["work"],
        histories_file_bytes=c.histories_file_bytes_per_event * d.kept_events,
        bundle_bytes=bundle_bytes(c, d.films),
        registry_disk_bytes=sizes["registry"],
        exposure_disk_bytes=sizes["exposure"],
        redis_bytes=redis_bytes(c, d.users, d.films),
        training_cpu_seconds=training,
        softmax_cpu_seconds=c.softmax_cpu_seconds_per_event * d.kept_events,
        training_peak_bytes=fitting,
        features_cpu_seconds=features,
        features_peak_bytes=c.features_peak_bytes.at(d.kept_events),
        peak_network_bytes_per_second=network_bytes_per_second(c, d),
        api_machine=api,
        batch_machine=chosen,
        batch_hours_per_day=hours,
        batch_fits=fits,
        machine_dollars_per_day=machine_dollars,
        disk_dollars_per_day=sum(sizes.values()) / GIB * api.dollars_per_disk_gib_month / 30,
    )


def first_factor(holds: Callable[[float], bool], least: float = 1e-4, most: float = 1e3) -> float:
    """The smallest factor of a demand at which a growing condition holds; inf: none up to `most`.

    To one per cent.
    """
    if not holds(most):
        return float("inf")
    if holds(least):
        return least
    while most / least > 1.01:
        middle = (least * most) ** 0.5
        least, most = (least, middle) if holds(middle) else (middle, most)
    return most
