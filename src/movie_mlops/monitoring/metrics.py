"""Every Prometheus instrument of the house; no other module makes one."""

import json
from collections import Counter as Multiset
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    values,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

__all__ = ["CONTENT_TYPE_LATEST", "Counter"]

_SECONDS = (
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0,
)  # fmt: skip
UNMATCHED = "unmatched"


class Timer(Histogram):
    """A histogram that takes many values at once."""

    def observe_many(self, amounts: Sequence[float]) -> None:
        """As `observe` for each; two additions per bucket that is met instead of two per value."""
        met = np.bincount(np.searchsorted(self._upper_bounds, amounts))
        for bucket in np.flatnonzero(met).tolist():
            self._buckets[bucket].inc(int(met[bucket]))
        self._sum.inc(sum(amounts))


HTTP_REQUESTS = Counter(
    "http_requests", "Answered requests by route template.", ("method", "endpoint", "status")
)
HTTP_SECONDS = Timer(
    "http_request_duration_seconds",
    "Time from request to answer.",
    ("method", "endpoint"),
    buckets=_SECONDS,
)
MODEL_PREDICTIONS = Counter(
    "model_predictions", "Lists and ratings that were answered.", ("model", "version", "path")
)
MODEL_SECONDS = Timer(
    "model_prediction_duration_seconds",
    "Time of a model to make its answer.",
    ("model",),
    buckets=(0.00005, 0.0001, 0.0002, *_SECONDS),
)
MODEL_FAILURES = Counter(
    "model_failures", "Answers that fell back because a model failed.", ("model",)
)
BUNDLES_REFUSED = Counter("model_bundles_refused", "Bundles that were not loaded.", ("model",))
EXPOSURES = Counter("recommendation_exposures", "Films shown in answered lists.", ("path",))
EXPOSURES_DROPPED = Counter(
    "exposure_records_dropped", "Records of answers that were lost, by reason.", ("reason",)
)
SHADOW_LISTS = Counter(
    "shadow_lists", "Lists of the challenger that nobody saw, by outcome.", ("outcome",)
)
SHADOW_SECONDS = Histogram(
    "shadow_list_duration_seconds", "Time of the challenger to make one.", buckets=_SECONDS
)
SHADOW_OVERLAP = Histogram(
    "shadow_list_overlap_ratio",
    "Share of films that the challenger's list has in common with the one that was shown.",
    buckets=tuple(tenth / 10 for tenth in range(11)),
)
CLICKS = Counter("recommendation_clicks", "Click events that were taken.")
EVENTS = Counter("events_accepted", "Events by outcome.", ("topic", "outcome"))
UNKNOWN_FILMS = Counter("events_unknown_movie", "Events about films not in the catalogue.")
EVENT_LAG = Gauge(
    "event_lag",
    "Events that a consumer group has not handled.",
    ("group", "topic"),
    multiprocess_mode="mostrecent",
)
DEAD_LETTERS = Counter("dead_letters", "Events that no handler could take.", ("topic", "group"))
EVENTS_REPEATED = Counter(
    "events_repeated",
    "Events whose id came before, not handled again: the same event, or another one (conflict).",
    ("topic", "group", "standing"),
)
EVENTS_EXPIRED = Counter(
    "events_expired",
    "Events that retention removed before the group read them.",
    ("topic", "group"),
)
EVENT_TO_LIST_SECONDS = Timer(
    "event_to_list_seconds",
    "Time from an event's publishing to its place in the lists of another process.",
    buckets=_SECONDS,
)
EVENT_LOG_BYTES = Gauge(
    "event_log_bytes", "Size of the embedded event log.", multiprocess_mode="mostrecent"
)
RATE_LIMITED = Counter("rate_limited_requests", "Writes that were answered 429.")
SHED = Counter("shed_requests", "Requests answered 503 at once because too many were in flight.")
DEGRADATION = Gauge(
    "degradation_level",
    "1 for the level that holds; in several processes 1 where it holds in one.",
    ("level",),
    multiprocess_mode="livemax",
)
API_READY = Gauge(
    "api_ready_processes", "API processes that answer requests.", multiprocess_mode="livesum"
)


class Tally:
    """Counts and times that reach their instruments a few times a second.

    An addition to an instrument takes a lock, and in several processes a write to a shared file;
    a note here is one append. What is not flushed yet is lost on a kill.
    """

    def __init__(self) -> None:
        self._counts: list[tuple[Counter, float]] = []
        self._seconds: list[tuple[Timer | _Requests, float]] = []
        self.count = self._counts.append
        self.time = self._seconds.append

    def flush(self) -> None:
        """Bring all notes to their instruments."""
        counts, seconds = self._counts[:], self._seconds[:]
        # notes that come in between stay for the next time
        del self._counts[: len(counts)], self._seconds[: len(seconds)]
        for (counter, amount), times in Multiset(counts).items():
            counter.inc(amount * times)
        by_timer: dict[Timer | _Requests, list[float]] = {}
        for timer, value in seconds:
            by_timer.setdefault(timer, []).append(value)
        for timer, amounts in by_timer.items():
            timer.observe_many(amounts)


TALLY = Tally()
"""The notes of this process; `exposition` flushes them, and so must whoever makes many."""


class _Requests:
    """Those of one method, endpoint and status."""

    def __init__(self, method: str, endpoint: str, status: int) -> None:
        self._counter = HTTP_REQUESTS.labels(method, endpoint, str(status))
        self._timer = HTTP_SECONDS.labels(method, endpoint)

    def observe_many(self, seconds: Sequence[float]) -> None:
        """Count so many requests, and how long each took."""
        self._counter.inc(len(seconds))
        self._timer.observe_many(seconds)


class RequestMeter:
    """Counts requests; the labelled children are looked up once and kept."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str, int], _Requests] = {}

    @staticmethod
    def expect(endpoints: Iterable[tuple[str, str]]) -> None:
        """Let the 5xx series of every (method, endpoint) start at zero."""
        for method, endpoint in endpoints:
            for status in (500, 503):
                HTTP_REQUESTS.labels(method, endpoint, str(status))

    def record(self, method: str, endpoint: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        TALLY.time((self._requests(method, endpoint, status), seconds))

    def _requests(self, method: str, endpoint: str, status: int) -> _Requests:
        found = self._kept.get((method, endpoint, status))
        if found is None:
            found = self._kept[method, endpoint, status] = _Requests(method, endpoint, status)
        return found


class SystemCollector:
    """Load of the machine, read when somebody scrapes; `folder` tells which disk is meant."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        psutil.cpu_percent()  # the first call has nothing to compare with and returns 0

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges."""
        memory, disk = psutil.virtual_memory(), psutil.disk_usage(str(self._folder))
        yield GaugeMetricFamily(
            "system_cpu_usage_percent", "CPU use of the machine.", psutil.cpu_percent()
        )
        yield _by_type("system_memory_usage_bytes", "Memory.", memory.used, memory.total)
        yield _by_type("system_disk_usage_bytes", "Disk of the home.", disk.used, disk.total)


class FeaturesCollector:
    """When the online store was last filled: the time of the `note` that filling it leaves."""

    def __init__(self, note: Path) -> None:
        self._note = note

    def collect(self) -> Iterator[Metric]:
        """Yield the gauge; without a sample before the first time."""
        family = GaugeMetricFamily(
            "features_materialized_timestamp_seconds", "When the online store was filled."
        )
        with suppress(FileNotFoundError):
            family.add_metric((), self._note.stat().st_mtime)
        yield family


def _by_type(name: str, text: str, used: int, total: int) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=("type",))
    family.add_metric(("used",), used)
    family.add_metric(("total",), total)
    return family


class ProcessesCollector:
    """Memory and processor time of the processes that share one port, added up."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = sorted(pids)

    def collect(self) -> Iterator[Metric]:
        """Yield what a process alone would say of itself; processes that are gone have none."""
        resident, seconds = 0, 0.0
        for pid in self._pids:
            try:
                process = psutil.Process(pid)
                times = process.cpu_times()
                resident += process.memory_info().rss
                seconds += times.user + times.system
            except psutil.NoSuchProcess:
                continue
        yield GaugeMetricFamily("process_resident_memory_bytes", "Resident memory.", resident)
        yield CounterMetricFamily("process_cpu_seconds", "Processor time.", seconds)


FIGURES = {
    "drift_score": ("Strongest shift of the last check; drift is above 0.5.", "model"),
    "loop_stopped": ("1 where drift outlived its trainings and a person is needed.", "model"),
    "loop_rollouts": ("Challengers on their way.", "stage"),
    "online_click_through": ("Share of lists whose viewer clicked a film.", "model_version"),
    "online_watch_share": ("Share of lists whose viewer watched a film.", "model_version"),
    "online_mean_rating": ("Mean rating of films after they were shown.", "model_version"),
    "online_exposures": ("Lists of a version that are remembered.", "model_version"),
    "recommendation_coverage": ("Share of the catalogue that lists showed.", "model_version"),
}
"""Gauges that pipelines and the worker leave in files: name to meaning and label."""


class FiguresCollector:
    """What other processes of the home found, read when somebody scrapes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        """Yield every gauge; one that nobody has written yet has no sample."""
        families = {
            name: GaugeMetricFamily(name, text, labels=(label,))
            for name, (text, label) in FIGURES.items()
        }
        for file in sorted(self._folder.glob("*.json")):
            try:
                found = json.loads(file.read_bytes())
            except (OSError, ValueError):  # taken away, or of another version
                continue
            for name, samples in found.items():
                for label, value in samples.items():
                    if name in families:
                        families[name].add_metric((label,), value)
        yield from families.values()


def write_figures(folder: Path, source: str, figures: Mapping[str, Mapping[str, float]]) -> None:
    """Let the next scrape show these: name of `FIGURES` to label to value.

    What `source` wrote before is replaced. `folder` is the home's `var/figures`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".{source}"
    beside.write_text(json.dumps(figures))
    beside.replace(folder / f"{source}.json")


_system: list[SystemCollector | FeaturesCollector | FiguresCollector] = []


def watch_system(home: Path) -> None:
    """Add the gauges of machine and home to the scrape, once per process."""
    if not _system:
        files = home / "var"
        _system.append(SystemCollector(home))
        _system.append(FeaturesCollector(files / "online_store"))
        _system.append(FiguresCollector(files / "figures"))
        for collector in _system:
            REGISTRY.register(collector)


def exposition() -> bytes:
    """All instruments in Prometheus' text format; milliseconds, so not on an event loop.

    Processes that share a port share a folder of samples too (`PROMETHEUS_MULTIPROC_DIR`): then
    counters are their sum, those of processes that have ended included.
    """
    TALLY.flush()
    if values.ValueClass is values.MutexValue:
        return generate_latest(REGISTRY)
    shared = CollectorRegistry()
    samples: Any = MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
    folder = Path(samples._path)  # noqa: SLF001 (the variable is its own to read)
    pids = {int(file.stem.rpartition("_")[2]) for file in folder.glob("counter_*.db")}
    for pid in pids:
        if not psutil.pid_exists(pid):
            mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
    for collector in _system:
        shared.register(collector)
    shared.register(ProcessesCollector(pids))
    return generate_latest(shared)
