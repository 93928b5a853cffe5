"""Ratings of films, and what is served."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from movie_mlops.api.dependencies import NOT_MODIFIED, JsonBytes, Services, tagged
from movie_mlops.api.errors import request_id_of
from movie_mlops.api.schemas.predictions import (
    ModelInfo,
    MovieIn,
    MoviesIn,
    PredictionOut,
    PredictionsOut,
)
from movie_mlops.domain.errors import EngineUnavailableError
from movie_mlops.domain.recommendations import RatingPrediction
from movie_mlops.domain.versions import MOVIE_PREDICTOR, MOVIE_RECOMMENDER, Alias
from movie_mlops.models.serving.predictor import MovieFacts
from movie_mlops.models.serving.services import ApiServices

router = APIRouter(tags=["predictions"])
_MODELS = {"rating": MOVIE_PREDICTOR, "recommendation": MOVIE_RECOMMENDER}


@router.post("/predict/movie", response_model=PredictionOut)
async def predict_movie(body: MovieIn, services: Services, request: Request) -> Response:
    """The rating that such a film would get, with its interval."""
    return JsonBytes(rating_answer(services, body.to_facts(), request_id_of(request)))


@router.post("/predict/batch", response_model=PredictionsOut)
def predict_batch(body: MoviesIn, services: Services, request: Request) -> Response:
    """The ratings of several films, in order."""
    found = services.ratings.predict([film.to_facts() for film in body.movies])
    request_id, audience = request_id_of(request), services.audience
    audience.exposures.note(request_id, audience.trial.ratings_shown(found))
    return JsonBytes({"predictions": [_rating(one) for one in found], "request_id": request_id})


@router.get("/model/info", response_model=ModelInfo, responses=NOT_MODIFIED)
async def get_model_info(
    request: Request,
    services: Services,
    task: Annotated[
        Literal["rating", "recommendation"], Query(description="Which of the two models.")
    ] = "rating",
) -> Response:
    """The champion that is served for a task."""
    name = _MODELS[task]
    loaded = services.loader.get(name)
    if loaded is None:
        message = f"{name} is not served yet; its training pipeline runs first"
        raise EngineUnavailableError(message, retry_after_seconds=10.0)
    challenger = services.loader.get(name, Alias.CHALLENGER)
    info = ModelInfo(
        task=task,
        model=name,
        version=loaded.entry.version,
        algorithm=loaded.entry.algorithm,
        snapshot=loaded.entry.snapshot,
        challenger=challenger.entry.version if challenger else None,
        card={key: value for key, value in loaded.card.items() if key != "files"},
    )
    return tagged(request, info.model_dump(mode="json"))


def rating_answer(services: ApiServices, film: MovieFacts, request_id: str) -> dict[str, Any]:
    """The rating of one film as it is answered, noted as shown."""
    audience = services.audience
    found = services.ratings.predict_one(film)
    audience.exposures.note(request_id, audience.trial.ratings_shown([found], film))
    return {**_rating(found), "request_id": request_id}


def _rating(found: RatingPrediction) -> dict[str, Any]:
    return {
        "rating": found.rating,
        "interval": {"low": found.low, "high": found.high, "level": found.level},
        "in_range": found.in_range,
        "model_version": found.model_version,
    }
