"""Model versions, their aliases and what was measured of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

MOVIE_RECOMMENDER = "movie_recommender"
MOVIE_PREDICTOR = "movie_predictor"
NEURAL_RECOMMENDER = "neural_recommender"
REGISTERED_MODELS = (MOVIE_RECOMMENDER, MOVIE_PREDICTOR, NEURAL_RECOMMENDER)


class Alias(StrEnum):
    """The two pointers that serving knows."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"


STAGE_TO_ALIAS = {"Production": Alias.CHAMPION, "Staging": Alias.CHALLENGER}
"""MLflow's old stage words, still accepted."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % bootstrap bounds."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One registered version and where it came from."""

    name: str
    version: str
    algorithm: str
    run_id: str
    snapshot: str
    aliases: tuple[str, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
