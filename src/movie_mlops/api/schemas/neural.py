"""Bodies of the PyTorch API."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from movie_mlops.api.schemas.ids import MovieIdIn, UserIdIn

ListLength = Annotated[int, Field(ge=1, le=100, description="Length of the list.")]


class PredictIn(BaseModel):
    """Whose scores of which films; at most 500."""

    user_id: UserIdIn
    movie_ids: list[MovieIdIn] = Field(min_length=1, max_length=500, examples=[[1, 2, 3, 4, 5]])


class RecommendIn(BaseModel):
    """Whose list; `exclude_seen` leaves out what the user has watched."""

    user_id: UserIdIn
    k: ListLength = 10
    exclude_seen: bool = True


class SimilarIn(BaseModel):
    """The film that the others are to be like."""

    movie_id: MovieIdIn
    k: ListLength = 10


class Scored(BaseModel):
    """A film and its score; null for a film that the model does not know."""

    movie_id: int
    score: float | None


class Answered(BaseModel):
    """What answered: `model` is movie_recommender while no network is served."""

    model: Literal["neural_recommender", "movie_recommender"]
    model_version: str
    request_id: str


class Predictions(Answered):
    """The user's scores in the order asked for; they compare within one answer only."""

    user_id: str
    predictions: list[Scored]


class NeuralItem(BaseModel):
    """One place of the list; `because` are the user's films that gave most."""

    movie_id: int
    title: str
    score: float
    because: list[int]


class NeuralRecommendations(Answered):
    """The best films, the best one first."""

    user_id: str
    k: int
    path: Literal["personal", "newcomer", "popular", "static"]
    items: list[NeuralItem]


class SimilarItem(BaseModel):
    """A film and how like the other one it is; figures compare within one answer only."""

    movie_id: int
    title: str
    similarity: float


class NeuralSimilar(Answered):
    """The films most like `movie_id`."""

    movie_id: int
    items: list[SimilarItem]
