"""Every Prometheus instrument of the house; no other module makes one."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

__all__ = ["CONTENT_TYPE_LATEST"]

_SECONDS = (
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0,
)  # fmt: skip
UNMATCHED = "unmatched"

HTTP_REQUESTS = Counter(
    "http_requests", "Answered requests by route template.", ("method", "endpoint", "status")
)
HTTP_SECONDS = Histogram(
    "http_request_duration_seconds",
    "Time from request to answer.",
    ("method", "endpoint"),
    buckets=_SECONDS,
)
MODEL_PREDICTIONS = Counter(
    "model_predictions", "Lists and ratings that were answered.", ("model", "version", "path")
)
MODEL_SECONDS = Histogram(
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
CLICKS = Counter("recommendation_clicks", "Click events that were taken.")
EVENTS = Counter("events_accepted", "Events by outcome.", ("topic", "outcome"))
UNKNOWN_FILMS = Counter("events_unknown_movie", "Events about films not in the catalogue.")
EVENT_LAG = Gauge("event_lag", "Events that a consumer group has not handled.", ("group", "topic"))
DEAD_LETTERS = Counter("dead_letters", "Events that no handler could take.", ("topic", "group"))
EVENT_LOG_BYTES = Gauge("event_log_bytes", "Size of the embedded event log.")
RATE_LIMITED = Counter("rate_limited_requests", "Writes that were answered 429.")


class RequestMeter:
    """Counts requests; the labelled children are looked up once and kept."""

    def __init__(self) -> None:
        self._counters: dict[tuple[str, str, int], Counter] = {}
        self._seconds: dict[tuple[str, str], Histogram] = {}

    def expect(self, endpoints: Iterable[tuple[str, str]]) -> None:
        """Let the 5xx series of every (method, endpoint) start at zero."""
        for method, endpoint in endpoints:
            for status in (500, 503):
                self._counter(method, endpoint, status)

    def record(self, method: str, endpoint: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self._counter(method, endpoint, status).inc()
        timer = self._seconds.get((method, endpoint))
        if timer is None:
            timer = HTTP_SECONDS.labels(method, endpoint)
            self._seconds[method, endpoint] = timer
        timer.observe(seconds)

    def _counter(self, method: str, endpoint: str, status: int) -> Counter:
        counter = self._counters.get((method, endpoint, status))
        if counter is None:
            counter = HTTP_REQUESTS.labels(method, endpoint, str(status))
            self._counters[method, endpoint, status] = counter
        return counter


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


def _by_type(name: str, text: str, used: int, total: int) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=("type",))
    family.add_metric(("used",), used)
    family.add_metric(("total",), total)
    return family


_system: list[SystemCollector] = []


def watch_system(folder: Path) -> None:
    """Add the machine's gauges to the scrape, once per process."""
    if not _system:
        _system.append(SystemCollector(folder))
        REGISTRY.register(_system[0])


def exposition() -> bytes:
    """All instruments in Prometheus' text format; milliseconds, so not on an event loop."""
    return generate_latest(REGISTRY)
