"""Everything that one API process serves from; made by the composition root."""

import threading
from dataclasses import dataclass

from movie_mlops.events import EventLog
from movie_mlops.models.serving.audience import Audience
from movie_mlops.models.serving.catalogue import Catalogue, People
from movie_mlops.models.serving.follower import HistoriesFollower
from movie_mlops.models.serving.histories import Histories
from movie_mlops.models.serving.model_loader import ModelLoader
from movie_mlops.models.serving.posters import Posters
from movie_mlops.models.serving.predictor import RatingService
from movie_mlops.models.serving.recommender import RecommendationService
from movie_mlops.models.serving.shelves import Shelves
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
    shelves: Shelves
    ratings: RatingService
    audience: Audience
    access_log: AccessLog

    def start(self) -> None:
        """Load models, apply the whole log, then keep following both and note who is shown what.

        Raises:
            EngineUnavailableError: the event log does not answer.
        """
        self.loader.reload()  # first: the tables were read when they were opened
        self.loader.subscribe(self.catalogue.reload)
        self.loader.subscribe(self.people.reload)
        self.loader.subscribe(self._look_for_new_films)
        self._look_for_new_films()
        self.loader.start()
        self.follower.start()
        self.audience.start()

    def _look_for_new_films(self) -> None:
        """In a thread: with many films it takes seconds, and lists are good without them."""
        threading.Thread(target=self.recommender.prepare, name="new-films", daemon=True).start()

    def close(self) -> None:
        """Stop following and close the log."""
        self.follower.stop()
        self.loader.stop()
        self.audience.close()
        self.log.close()
        self.access_log.close()
