"""Everything that one API process serves from; made by the composition root."""

from dataclasses import dataclass

from movie_mlops.events import EventLog
from movie_mlops.models.serving.catalogue import Catalogue, People
from movie_mlops.models.serving.follower import HistoriesFollower
from movie_mlops.models.serving.histories import Histories
from movie_mlops.models.serving.model_loader import ModelLoader
from movie_mlops.models.serving.posters import Posters
from movie_mlops.models.serving.predictor import RatingService
from movie_mlops.models.serving.recommender import RecommendationService
from movie_mlops.monitoring.logs import AccessLog


@dataclass(frozen=True, slots=True)
class ApiServices:
    """The parts, in the order in which they start."""

    log: EventLog
    catalogue: Catalogue
    people: People
    posters: Posters
    loader: ModelLoader
    histories: Histories
    follower: HistoriesFollower
    recommender: RecommendationService
    ratings: RatingService
    access_log: AccessLog

    def start(self) -> None:
        """Load models, apply the whole log, then keep following both.

        Raises:
            EngineUnavailableError: the event log does not answer.
        """
        self.loader.subscribe(self.catalogue.reload)
        self.loader.subscribe(self.people.reload)
        self.loader.start()
        self.follower.start()

    def close(self) -> None:
        """Stop following and close the log."""
        self.follower.stop()
        self.loader.stop()
        self.log.close()
        self.access_log.close()
