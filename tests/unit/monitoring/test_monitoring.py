"""Instruments, health, JSON lines."""

import json
import logging
from pathlib import Path

from movie_mlops.domain.errors import EngineUnavailableError
from movie_mlops.monitoring.health import DegradedError, overall, run_probes
from movie_mlops.monitoring.logs import AccessLog, JsonFormatter, RotatingFile
from movie_mlops.monitoring.metrics import (
    FIGURES,
    MODEL_PREDICTIONS,
    TALLY,
    FiguresCollector,
    RequestMeter,
    SystemCollector,
    Timer,
    exposition,
    write_figures,
)


def raising(error: Exception) -> object:
    def probe() -> str:
        raise error

    return probe


def test_a_probe_may_do_anything() -> None:
    parts = run_probes(
        {
            "fine": lambda: "good",
            "limping": raising(DegradedError("train first")),  # type: ignore[dict-item]
            "gone": raising(EngineUnavailableError("no answer")),  # type: ignore[dict-item]
            "broken": raising(ZeroDivisionError("x")),  # type: ignore[dict-item]
        }
    )
    assert {name: part.state for name, part in parts.items()} == {
        "fine": "ok", "limping": "degraded", "gone": "down", "broken": "down",
    }  # fmt: skip
    assert "ZeroDivisionError" in parts["broken"].detail
    assert overall(parts) == "degraded"
    assert overall({"fine": parts["fine"]}) == "ok"


def test_5xx_series_start_at_zero_and_requests_are_counted() -> None:
    meter = RequestMeter()
    meter.expect([("GET", "/only/here")])
    meter.record("GET", "/only/here", 200, 0.01)
    text = exposition().decode()
    assert 'http_requests_total{endpoint="/only/here",method="GET",status="503"} 0.0' in text
    assert 'http_requests_total{endpoint="/only/here",method="GET",status="200"} 1.0' in text


def test_many_values_at_once_are_the_same_as_one_by_one() -> None:
    values = [0.0, 0.1, 0.05, 0.5, 2.0, 0.1]
    one, many = (Timer(name, "x", buckets=(0.1, 1.0), registry=None) for name in ("a", "b"))
    for value in values:
        one.observe(value)
    many.observe_many(values)
    counts = [[sample[2] for sample in timer._child_samples()][:4] for timer in (one, many)]
    assert counts[0] == counts[1] == [4, 5, 6, 6]
    assert one._sum.get() == many._sum.get()


def test_notes_reach_their_instruments_with_the_flush() -> None:
    counter = MODEL_PREDICTIONS.labels("m", "tally", "p")
    for amount in (1.0, 1.0, 10.0):
        TALLY.count((counter, amount))
    assert counter._value.get() == 0
    TALLY.flush()
    TALLY.flush()
    assert counter._value.get() == 12


def test_the_machine_is_measured(tmp_path: Path) -> None:
    families = {family.name: family for family in SystemCollector(tmp_path).collect()}
    disk = {sample.labels["type"]: sample.value for sample in families[
        "system_disk_usage_bytes"].samples}  # fmt: skip
    assert 0 < disk["used"] < disk["total"]
    assert 0 <= families["system_cpu_usage_percent"].samples[0].value <= 100


def test_log_lines_are_json_with_their_extras() -> None:
    try:
        raise ValueError("한글")
    except ValueError:
        record = logging.getLogger("x").makeRecord(
            "x", logging.ERROR, "f", 1, "it %s", ("broke",), None, extra={"user": "1"}
        )
        record.exc_info = __import__("sys").exc_info()
    line = json.loads(JsonFormatter().format(record))
    assert (line["level"], line["message"], line["user"]) == ("error", "it broke", "1")
    assert "ValueError: 한글" in line["traceback"]


def test_the_access_log_writes_what_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(RotatingFile(path), flush_seconds=0.01)
    for number in range(100):
        log.write(b'{"number":%d}' % number)
    log.close()
    assert [json.loads(line)["number"] for line in path.read_text().splitlines()] == list(
        range(100)
    )


def test_figures_of_other_processes_are_read_at_the_scrape(tmp_path: Path) -> None:
    collector = FiguresCollector(tmp_path / "figures")
    assert {family.name for family in collector.collect()} == set(FIGURES)
    write_figures(tmp_path / "figures", "drift", {"drift_score": {"movie_recommender": 0.7}})
    write_figures(tmp_path / "figures", "quality", {"online_exposures": {"1": 5.0, "2": 6.0}})
    write_figures(tmp_path / "figures", "quality", {"online_exposures": {"2": 7.0}, "x": {"a": 1}})
    (tmp_path / "figures" / "broken.json").write_text("{")
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in collector.collect()
        for sample in family.samples
    }
    # what a source no longer says is gone: no series of a version that is not served any more
    assert found == {("drift_score", "movie_recommender"): 0.7, ("online_exposures", "2"): 7.0}
