"""A small house for tests of serving and API: films, viewers, fitted models, a manifest."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import uvicorn
from threadpoolctl import threadpool_limits

from movie_mlops.api.main import create_app
from movie_mlops.bootstrap import open_exposures
from movie_mlops.data.processors.posters import draw_poster
from movie_mlops.data.tables import INTERACTIONS, MOVIES, PEOPLE
from movie_mlops.domain.movies import GENRES
from movie_mlops.domain.versions import MOVIE_PREDICTOR, MOVIE_RECOMMENDER, Alias
from movie_mlops.events import open_event_log
from movie_mlops.models.algorithms import create, load
from movie_mlops.models.algorithms.base import RatingRows, TrainingHistories
from movie_mlops.models.bundle import save_bundle
from movie_mlops.models.manifest import Entry, point
from movie_mlops.models.serving.audience import Audience, Plan
from movie_mlops.models.serving.catalogue import Catalogue, People
from movie_mlops.models.serving.follower import HistoriesFollower, write_histories
from movie_mlops.models.serving.histories import Histories
from movie_mlops.models.serving.model_loader import ModelLoader
from movie_mlops.models.serving.posters import Posters
from movie_mlops.models.serving.predictor import RatingService
from movie_mlops.models.serving.recommender import RecommendationService
from movie_mlops.models.serving.services import ApiServices
from movie_mlops.models.serving.shelves import Shelves
from movie_mlops.monitoring.logs import AccessLog, RotatingFile
from movie_mlops.settings import Settings

FILMS, VIEWERS = 40, 60
START = datetime(2026, 1, 1, tzinfo=UTC)


def movies(count: int = FILMS) -> pl.DataFrame:
    """Films 1 … count in two tastes: odd ones are comedies, even ones are war films."""
    rows = [
        {
            "movie_id": number,
            "title": f"영화 {number}",
            "title_en": f"The Film {number}",
            "title_ko": f"영화 {number}",
            "original_title": f"영화 {number}",
            "year": 1980 + number % 40,
            "runtime": 90 + number,
            "genres": ["Comedy" if number % 2 else "War", GENRES[number % 5]],
            "overview": f"The plot of {number}.",
            "directors": ["A. Director"],
            "cast": ["An Actor"],
            "vote_average": 5 + number % 5,
            "vote_count": 100 + number,
            "popularity": float(count - number),
            "adult": False,
            "poster_url": None,
            "imdb_id": None,
        }
        for number in range(1, count + 1)
    ]
    return pl.DataFrame(rows, schema=MOVIES.schema)


def interactions(seed: int = 1) -> pl.DataFrame:
    """Viewers 1 … VIEWERS who watch films of one taste each."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    for viewer in range(1, VIEWERS + 1):
        of_taste = np.arange(1 + viewer % 2, FILMS + 1, 2)
        for place, film in enumerate(rng.choice(of_taste, 12, replace=False)):
            rows.append(
                {
                    "user_id": str(viewer),
                    "movie_id": int(film),
                    "interaction_type": "watch",
                    "rating": None,
                    "timestamp": START + timedelta(hours=place, minutes=viewer),
                    "line": len(rows),
                }
            )
    return pl.DataFrame(rows, schema=INTERACTIONS.schema)


def people() -> pl.DataFrame:
    """Two simulated viewers."""
    rows = [
        ("1", "Ada", "에이다", 30, "Comedies", "코미디"),
        ("2", "Bo", "보", 40, "War films", "전쟁 영화"),
    ]
    return pl.DataFrame(rows, schema=PEOPLE.schema, orient="row")


def training(frame: pl.DataFrame, films: pl.DataFrame) -> TrainingHistories:
    """The interactions as algorithms take them."""
    ids = films["movie_id"].sort().to_numpy()
    sorted_rows = frame.sort("user_id", "timestamp", "line")
    counts = sorted_rows.group_by("user_id", maintain_order=True).len()
    return TrainingHistories(
        movie_ids=ids,
        user_ids=tuple(counts["user_id"].to_list()),
        indptr=np.concatenate([[0], counts["len"].to_numpy().cumsum()]).astype(np.int64),
        items=np.searchsorted(ids, sorted_rows["movie_id"].to_numpy()).astype(np.int32),
    )


def serve(serving: Path, version: str = "1", algorithm: str = "sequence_linear") -> Entry:
    """Fit the algorithm on the small house and make it champion."""
    model = create(algorithm).fit(training(interactions(), movies()))
    path = f"{MOVIE_RECOMMENDER}/{version}"
    sha256 = save_bundle(serving / path, *model.artifact())
    entry = Entry(version, path, sha256, snapshot="snapshot-1", algorithm=algorithm)
    point(serving, MOVIE_RECOMMENDER, Alias.CHAMPION, entry)
    return entry


def api_services(settings: Settings) -> ApiServices:
    """The parts of an API process over the small house's tables."""
    serving = settings.path(settings.serving_url)
    log = open_event_log(settings.events_url, settings.home, settings.event_log_max_bytes)
    loader = ModelLoader(serving, load, poll_seconds=0.02)
    histories = Histories(settings.history_length)
    catalogue = Catalogue(movies)
    recommender = RecommendationService(loader, histories, catalogue)
    return ApiServices(
        log=log,
        catalogue=catalogue,
        people=People(people),
        posters=Posters(draw_poster),
        loader=loader,
        histories=histories,
        follower=HistoriesFollower(histories, log, loader, serving, "api-0"),
        recommender=recommender,
        shelves=Shelves(recommender, histories, catalogue),
        ratings=RatingService(loader),
        audience=Audience(
            open_exposures(settings, "api-0"),
            Plan(settings.running_experiment, settings.shadow_share),
            log,
            loader,
            recommender,
            histories,
        ),
        access_log=AccessLog(RotatingFile(settings.home / "access.log")),
    )


def furnish(settings: Settings) -> None:
    """Fit and promote the recommender, and write the histories."""
    serving = settings.path(settings.serving_url)
    serve(serving)
    write_histories(serving, Histories.from_frame(interactions(), settings.history_length), "s1")


@contextmanager
def running(settings: Settings, page: Path | None = None) -> Iterator[str]:
    """A real server on a free port of loopback; yields its address."""
    with answering(create_app(settings, lambda: api_services(settings), page)) as url:
        yield url


def built_page(folder: Path) -> Path:
    """The folder, with the least that a built page is made of."""
    (folder / "index.html").write_text("<!doctype html><title>page</title>")
    (folder / "favicon.svg").write_text("<svg/>")
    (folder / "assets").mkdir()
    (folder / "assets" / "app.js").write_text("1")
    return folder


@contextmanager
def answering(app: Any, **how: Any) -> Iterator[str]:
    """A real server of an application on a free port of loopback; yields its address."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, **how)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def serve_ratings(serving: Path) -> Entry:
    """Fit the boosted rating model on a few made-up films and make it champion."""
    rng = np.random.default_rng(0)
    count = 80
    rows = RatingRows(
        title=[f"Film {number}" for number in range(count)],
        original_title=[f"Film {number}" for number in range(count)],
        start_year=rng.integers(1950, 2020, count).astype(float),
        runtime_minutes=rng.integers(60, 180, count).astype(float),
        num_votes=rng.integers(100, 10_000, count).astype(float),
        genres=[["Drama"]] * count,
        adult=np.zeros(count, np.bool_),
    )
    ratings = 4 + rows.runtime_minutes / 60 + rng.normal(0, 0.3, count)
    with threadpool_limits(1):  # OpenMP threads spin for a minute when the cores are taken
        model = create("boosted", rounds=60).fit(rows, ratings)
    sha256 = save_bundle(serving / MOVIE_PREDICTOR / "1", *model.artifact())
    entry = Entry("1", f"{MOVIE_PREDICTOR}/1", sha256, snapshot="snapshot-1", algorithm="boosted")
    point(serving, MOVIE_PREDICTOR, Alias.CHAMPION, entry)
    return entry
