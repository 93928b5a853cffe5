"""Data collection: fetch, check and store, simulate people where the source has none, snapshot."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from movie_mlops.data.crawlers.base import Crawler
from movie_mlops.data.lake import Lake
from movie_mlops.data.processors.catalog import table_records, write_records
from movie_mlops.data.processors.tastes import simulate_people
from movie_mlops.data.processors.watch_log import TMDBPreProcessor
from movie_mlops.data.tables import INTERACTIONS, PEOPLE, TABLES, WATCH_LOG
from movie_mlops.data.versions import DataVersionManager
from movie_mlops.orchestration.base import Json, Pipeline, Report

SOURCES_WITHOUT_PEOPLE = ("sample", "tmdb")


@dataclass(frozen=True, slots=True)
class DataCollection:
    """The steps and what they need."""

    lake: Lake
    open_crawler: Callable[[], Crawler]
    snapshots: DataVersionManager
    people: int
    watches_per_person: int
    seed: int

    def pipeline(self) -> Pipeline:
        """The steps in order."""
        steps = (self.collect, self.process, self.simulate, self.snapshot)
        return Pipeline("data_collection", {step.__name__: step for step in steps})

    def collect(self, inputs: Json, report: Report) -> Json:
        """Bring the source's raw files into the lake."""
        del inputs
        crawler = self.open_crawler()
        crawler.fetch(self.lake.raw(crawler.source), report)
        self.lake.raw_written(crawler.source)
        return {"source": crawler.source, "note": f"source {crawler.source}"}

    def process(self, inputs: Json, report: Report) -> Json:
        """Stage the raw files, check every row, swap in the tables."""
        crawler = self.open_crawler()
        with self.lake.connect() as connection:
            names = crawler.stage(self.lake.raw(inputs["source"]), connection)
            reports = []
            for done, name in enumerate(names):
                report(f"checking {name}", done, len(names))
                reports.append(self.lake.replace(TABLES[name], connection, f"raw_{name}"))
        rows = {done.table: done.rows_out for done in reports}
        quarantined = sum(done.rows_in - done.rows_out for done in reports)
        note = ", ".join(f"{count:,} {name}" for name, count in rows.items())
        return {
            "tables": list(names),
            "rows": rows,
            "quarantined": quarantined,
            "note": f"{note}; {quarantined:,} rows in quarantine",
        }

    def simulate(self, inputs: Json, report: Report) -> Json:
        """Write the guide's raw page and watch log; invent people where the source has none."""
        movies = self.lake.read("movies")
        self._write_guide_files(
            inputs["source"], movies.filter(movies["vote_average"].is_not_null())
        )
        if inputs["source"] not in SOURCES_WITHOUT_PEOPLE:
            return {"note": "watch log of the guide; people are the source's own"}
        report("simulating people", 0, None)
        end = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        world = simulate_people(
            movies,
            people=self.people,
            watches_per_person=self.watches_per_person,
            seed=self.seed,
            end=end,
        )
        with self.lake.connect() as connection:
            connection.register("raw_people", world.people.to_arrow())
            connection.register("raw_interactions", world.interactions.to_arrow())
            self.lake.replace(PEOPLE, connection, "raw_people")
            done = self.lake.replace(INTERACTIONS, connection, "raw_interactions")
        return {"note": f"{self.people:,} simulated people, {done.rows_out:,} interactions"}

    def snapshot(self, inputs: Json, report: Report) -> Json:
        """Name this state of the tables."""
        del inputs
        report("snapshot", 0, None)
        tag = self.snapshots.current_or_new()
        return {"snapshot": tag, "note": f"snapshot {tag}"}

    def _write_guide_files(self, source: str, movies: pl.DataFrame) -> None:
        """`raw/tmdb/popular.json` and `processed/watch_log.csv`, as the guide's readers expect."""
        records = table_records(movies)
        if source != "tmdb":  # TMDB's own page stays as it was sent
            write_records(records, self.lake.raw("tmdb") / "popular.json")
            self.lake.raw_written("tmdb")
        simulation = TMDBPreProcessor(records, seed=self.seed)
        simulation.run()
        made = simulation.save(self.lake.spill / "watch_log.csv")
        with self.lake.replacing(self.lake.path("watch_log").with_suffix(".csv")) as partial:
            made.replace(partial)
        with self.lake.connect() as connection:
            connection.register("raw_watch_log", simulation.to_frame().to_arrow())
            self.lake.replace(WATCH_LOG, connection, "raw_watch_log")
