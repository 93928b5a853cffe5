"""The parts of one API process, put together."""

from movie_mlops.bootstrap.places import erased_folder, open_exposures, read_if_there, take_slot
from movie_mlops.data.lake import Lake
from movie_mlops.data.processors.posters import draw_poster
from movie_mlops.events import open_event_log
from movie_mlops.events.erased import ErasedUsers
from movie_mlops.models import algorithms
from movie_mlops.models.serving.audience import Audience, Plan
from movie_mlops.models.serving.batch_lists import BatchLists
from movie_mlops.models.serving.catalogue import Catalogue, People
from movie_mlops.models.serving.follower import HistoriesFollower
from movie_mlops.models.serving.histories import Histories
from movie_mlops.models.serving.model_loader import ModelLoader
from movie_mlops.models.serving.posters import Posters
from movie_mlops.models.serving.predictor import RatingService
from movie_mlops.models.serving.recommender import RecommendationService
from movie_mlops.models.serving.services import ApiServices
from movie_mlops.models.serving.shelves import Shelves
from movie_mlops.monitoring.logs import AccessLog, RotatingFile, configure_logging
from movie_mlops.settings import (
    Settings,
    turn_off_telemetry,
)


def open_api_services(settings: Settings) -> ApiServices:
    """Everything that one API process serves from."""
    turn_off_telemetry()
    configure_logging()
    serving = settings.path(settings.serving_url)
    serving.mkdir(parents=True, exist_ok=True)
    lake = Lake(settings.lake_folder)  # the copy, where a store has it: no answer waits for that
    log = open_event_log(settings.events_url, settings.home, settings.event_log_max_bytes)
    loader = ModelLoader(serving, algorithms.load)
    catalogue = Catalogue(lambda: read_if_there(lake, "movies"))
    histories = Histories(settings.history_length)
    group = f"api-{take_slot(settings.home / 'var' / 'slots')}"
    batch = BatchLists(loader, serving)
    recommender = RecommendationService(loader, histories, catalogue, batch)
    return ApiServices(
        log=log,
        catalogue=catalogue,
        people=People(lambda: read_if_there(lake, "people")),
        posters=Posters(draw_poster),
        loader=loader,
        histories=histories,
        follower=HistoriesFollower(
            histories, log, loader, serving, group, ErasedUsers(erased_folder(settings))
        ),
        recommender=recommender,
        shelves=Shelves(recommender, histories, catalogue),
        ratings=RatingService(loader),
        audience=Audience(
            open_exposures(settings, group),
            Plan(settings.running_experiment, settings.shadow_share),
            log,
            loader,
            recommender,
            histories,
        ),
        access_log=AccessLog(RotatingFile(settings.home / "var" / "logs" / f"{group}.jsonl")),
    )
