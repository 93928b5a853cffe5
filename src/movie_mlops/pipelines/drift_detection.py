"""Drift detection: compare what is with what the champion learnt, report it, publish an alarm."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import polars as pl

from movie_mlops.data.lake import Lake
from movie_mlops.data.versions import DataVersionManager
from movie_mlops.domain.errors import EngineUnavailableError
from movie_mlops.domain.versions import MOVIE_RECOMMENDER
from movie_mlops.events.schemas import ModelDriftEvent
from movie_mlops.models.bundle import load_bundle
from movie_mlops.models.manifest import Entry, read_manifest
from movie_mlops.models.registry import ModelRegistry, RunRecord
from movie_mlops.models.serving.exposure_store import ExposureStore
from movie_mlops.monitoring.drift import DriftReport, compare
from movie_mlops.monitoring.metrics import write_figures
from movie_mlops.orchestration.base import Json, Pipeline, Report
from movie_mlops.pipelines.drift_answers import AnswerWindows
from movie_mlops.pipelines.drift_html import write_html
from movie_mlops.pipelines.drift_sources import Frames, Trained, acts, family

EXPERIMENT = "drift"
REPORT, HTML, PLOTS = "report.json", "drift.html", "plots"
_SHOWN_ROWS = 5_000  # of each window in the HTML report


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """When an alarm is due; `features` are names of `drift_sources.WATCHED`."""

    window: timedelta
    false_alarm_rate: float
    min_events: int
    features: Sequence[str]
    seed: int


class Comparison(NamedTuple):
    """What `compare_now` found; without a champion there is none."""

    version: str
    window_end: datetime
    report: DriftReport
    frames: tuple[Frames, ...]


@dataclass(frozen=True, slots=True)
class DriftDetection:
    """The steps and what they need.

    `work` holds what one step leaves for the next, `figures` what a scrape shows. `publish_event`
    takes an event and the id under which a repetition is a duplicate.
    """

    lake: Lake
    snapshots: DataVersionManager
    registry: ModelRegistry
    serving: Path
    open_exposures: Callable[[], ExposureStore]
    work: Path
    figures: Path
    sensitivity: Sensitivity
    publish_event: Callable[[ModelDriftEvent, str], None]

    def pipeline(self) -> Pipeline:
        """The steps in order."""
        steps = (self.compare, self.report, self.publish)
        return Pipeline("drift_detection", {step.__name__: step for step in steps})

    def compare(self, inputs: Json, report: Report) -> Json:
        """Compare the windows and leave numbers and a sample of the rows for the report."""
        del inputs
        found = self.compare_now(datetime.now(UTC), report)
        if found is None:
            return {"drift": {}, "note": "no champion to compare with"}
        self.work.mkdir(parents=True, exist_ok=True)
        outcome = {
            "model_version": found.version,
            "window_end": found.window_end.isoformat(),
            **found.report.to_json(),
        }
        (self.work / REPORT).write_text(json.dumps(outcome, indent=1))
        for number, frames in enumerate(found.frames):
            for side in ("reference", "current"):
                rows: pl.DataFrame = getattr(frames, side)
                _sample(rows, self.sensitivity.seed).drop("who", "timestamp").write_parquet(
                    self.work / f"{side}-{number}.parquet"
                )
        summary = {key: value for key, value in outcome.items() if key != "features"}
        summary["drifted"] = [each.name for each in found.report.features if each.drifted]
        summary["windows"] = len(found.frames)
        return {"drift": summary, "note": sentence(found.report), "board": _board(found.report)}

    def report(self, inputs: Json, report: Report) -> Json:
        """Log a run with the numbers, the JSON and, with the extra `reports`, Evidently's page."""
        summary = inputs["drift"]
        if not summary:
            return {"note": "nothing to report"}
        text = (self.work / REPORT).read_text()
        plots, has_page = self.work / PLOTS, find_spec("evidently") is not None
        plots.mkdir(exist_ok=True)
        (plots / HTML).unlink(missing_ok=True)
        if has_page and summary["state"] != "too little data":
            report("Evidently: writing the page", 0, None)
            write_html(self._pairs(summary["windows"]), plots / HTML)
        version = summary["model_version"]
        record = RunRecord(
            name=f"{MOVIE_RECOMMENDER} v{version} until {summary['window_end']}",
            parameters={
                "model": MOVIE_RECOMMENDER,
                "model_version": version,
                "window_end": summary["window_end"],
                "false_alarm_rate": summary["false_alarm_rate"],
            },
            metrics=_metrics(json.loads(text)),
            plots=plots,
            texts={REPORT: text},
            tags={"state": summary["state"]},
        )
        run_id = self.registry.log_run(EXPERIMENT, record)
        page = "" if has_page else "; without the extra `reports` there is no HTML page"
        return {"drift_run_id": run_id, "note": f"run {run_id}{page}"}

    def publish(self, inputs: Json, report: Report) -> Json:
        """Show the score to the next scrape; when drift was found say so in an event, once."""
        del report
        summary = inputs["drift"]
        if not summary:
            return {"note": "nothing to publish"}
        score = {"drift_score": {MOVIE_RECOMMENDER: summary["score"]}}
        write_figures(self.figures, "drift", score)
        if summary["state"] != "drift":
            return {"note": f"score {summary['score']:.2f}, no event"}
        version, end = summary["model_version"], datetime.fromisoformat(summary["window_end"])
        event = ModelDriftEvent(
            model_name=MOVIE_RECOMMENDER,
            model_version=version,
            drift_score=summary["score"],
            threshold=summary["threshold"],
            timestamp=end,
            metrics=_metrics(json.loads((self.work / REPORT).read_text())),
        )
        event_id = f"drift-{version}-{round(1e6 * end.timestamp())}"
        self.publish_event(event, event_id)
        return {"drift_event_id": event_id, "note": f"event {event_id}"}

    def compare_now(self, now: datetime, report: Report) -> Comparison | None:
        """The comparison as of `now`; writes nothing but a new version's first answers."""
        served = read_manifest(self.serving).get(MOVIE_RECOMMENDER)
        if served is None or served.champion is None:
            return None
        champion = served.champion
        report("reading acts", 0, None)
        how = self.sensitivity
        frames = [acts(self.lake, self._trained(champion), how.window, now)]
        try:
            answers = AnswerWindows(self.open_exposures, self.work, how.min_events)
            frames += answers.frames(champion.version, self.lake, how.window, now)
        except EngineUnavailableError:  # acts are judged all the same
            report("answers cannot be read now", 0, None)
        report("drawing windows", 0, None)
        found = compare(
            [family(each, how.features) for each in frames],
            how.false_alarm_rate,
            how.min_events,
            how.seed,
        )
        end = max((each.end for each in frames if each.end is not None), default=now)
        return Comparison(champion.version, end, found, tuple(frames))

    def write_page(self, found: Comparison, path: Path) -> None:
        """Evidently's page of a comparison.

        Raises:
            ConfigurationError: the extra `reports` is not installed.
        """
        seed = self.sensitivity.seed
        write_html(
            [(_sample(each.reference, seed), _sample(each.current, seed)) for each in found.frames],
            path,
        )

    def _trained(self, champion: Entry) -> Trained:
        _, card = load_bundle(self.serving / champion.path, champion.card_sha256)
        positions = {int(place): at for place, at in card.get("log_positions", {}).items()}
        tags = {found.tag: found.created_at for found in self.snapshots.list_snapshots()}
        created = tags.get(champion.snapshot)
        return Trained(positions, datetime.fromisoformat(created) if created else None)

    def _pairs(self, windows: int) -> list[tuple[pl.DataFrame, pl.DataFrame]]:
        sides = ("reference", "current")
        frames = [
            [pl.read_parquet(self.work / f"{side}-{number}.parquet") for side in sides]
            for number in range(windows)
        ]
        return [(before, now) for before, now in frames]


def sentence(found: DriftReport) -> str:
    """What the report says, for a person."""
    if found.state == "too little data":
        return f"too little data: {found.values} acts since the champion was trained"
    odds = f"score {found.score:.2f} of {found.threshold:.2f}, p = {found.p_value:.3g}"
    if not found.drifted:
        return f"no drift ({odds})"
    names = ", ".join(each.name for each in found.features if each.drifted)
    return f"drift in {names} ({odds})"


def _metrics(outcome: Json) -> dict[str, float]:
    """Every number of a report by name: `genre_psi`, `rating_ks`, the score."""
    figures = {
        f"{feature['name']}_{measure['name']}": round(float(measure["value"]), 6)
        for feature in outcome["features"]
        for measure in feature["measures"]
    }
    return figures | {name: float(outcome[name]) for name in ("score", "p_value", "people")}


def _board(found: DriftReport) -> Json:
    """The features with their distances and bounds, ready to print."""
    rows = {
        each.name: {
            "psi": _beside(each.measures[0].value, each.measures[0].threshold),
            "ks / js": _beside(each.measures[1].value, each.measures[1].threshold),
            "values": f"{each.current_count:,}",
            "drift": "yes" if each.drifted else "",
        }
        for each in found.features
    }
    title = f"Drift since the champion was trained: {sentence(found)}"
    return {"title": title, "metrics": ["psi", "ks / js", "values", "drift"], "models": rows}


def _beside(value: float, bound: float) -> str:
    return f"{value:.4f} (bound {bound:.4f})"


def _sample(frame: pl.DataFrame, seed: int) -> pl.DataFrame:
    return frame.sample(min(len(frame), _SHOWN_ROWS), seed=seed)
