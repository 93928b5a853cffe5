"""The A/B test that one API process takes part in: viewers' arms, and what was shown to whom."""

from collections.abc import Sequence
from functools import lru_cache

from movie_mlops.domain.experiments import Arm, Experiment
from movie_mlops.domain.interactions import UserId
from movie_mlops.domain.recommendations import RatingPrediction, RecommendationList
from movie_mlops.domain.versions import MOVIE_PREDICTOR, MOVIE_RECOMMENDER, Alias
from movie_mlops.models.serving.exposures import Shown
from movie_mlops.models.serving.histories import Histories
from movie_mlops.models.serving.model_loader import ModelLoader
from movie_mlops.models.serving.predictor import MovieFacts

_KEPT_ARMS = 100_000
_ALIASES = tuple(Alias)  # going through the class itself is slow


class Trial:
    """Allocates viewers to `experiment` (None: everybody gets the champion)."""

    def __init__(
        self, experiment: Experiment | None, loader: ModelLoader, histories: Histories
    ) -> None:
        self._loader, self._histories = loader, histories
        self.test(experiment)

    def test(self, experiment: Experiment | None) -> None:
        """Allocate viewers to this test from now on."""
        arms = experiment.arms if experiment is not None else ()
        self._aliases = tuple({arm.alias for arm in arms})
        self._drawn = lru_cache(_KEPT_ARMS)(experiment.arm_of) if experiment is not None else None
        self.experiment = experiment

    def arm_of(self, user_id: UserId) -> Arm | None:
        """The viewer's arm; None where nothing is tested, or nobody is named.

        As long as one arm's model is not served nobody is in the test, also not in the other arm.
        """
        if self._drawn is None or not user_id:
            return None
        for alias in self._aliases:
            if self._loader.get(MOVIE_RECOMMENDER, alias) is None:
                return None
        return self._drawn(user_id)

    def alias_of(self, user_id: UserId) -> Alias:
        """Which model the viewer's lists come from."""
        arm = self.arm_of(user_id)
        return Alias.CHAMPION if arm is None else arm.alias

    def list_shown(
        self, made: RecommendationList, arm: Arm | None = None, kind: str = "list"
    ) -> Shown:
        """The record of a list."""
        algorithm, card_sha256 = self._made_by(MOVIE_RECOMMENDER, made.model_version)
        in_test = arm is not None and self.experiment is not None
        return Shown(
            kind=kind,
            user_id=made.user_id,
            path=made.path,
            model=MOVIE_RECOMMENDER,
            version=made.model_version,
            snapshot=made.snapshot,
            algorithm=algorithm,
            card_sha256=card_sha256,
            position=self._histories.position_of(made.user_id),
            items=tuple(item.movie_id for item in made.items),
            experiment=self.experiment.name if self.experiment is not None and in_test else "",
            arm=arm.name if arm is not None else "",
        )

    def ratings_shown(
        self, found: Sequence[RatingPrediction], film: MovieFacts | None = None
    ) -> Shown:
        """The record of predicted ratings; of a single film's with what it was made from."""
        version = found[0].model_version if found else ""
        loaded = self._loader.get(MOVIE_PREDICTOR)
        algorithm, card_sha256 = self._made_by(MOVIE_PREDICTOR, version)
        return Shown(
            kind="rating",
            user_id="",
            path="",
            model=MOVIE_PREDICTOR,
            version=version,
            snapshot=loaded.entry.snapshot if loaded is not None and card_sha256 else "",
            algorithm=algorithm,
            card_sha256=card_sha256,
            ratings=tuple([one.rating for one in found]),
            facts=film,
        )

    def _made_by(self, model: str, version: str) -> tuple[str, str]:
        """Algorithm and hash of the card of a version that is loaded."""
        for alias in _ALIASES:
            loaded = self._loader.get(model, alias)
            if loaded is not None and loaded.entry.version == version:
                return loaded.entry.algorithm, loaded.entry.card_sha256
        return "", ""
