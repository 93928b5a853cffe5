"""Features of films and viewers, answered by the worker."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from movie_mlops.api.dependencies import MaySeeOf, Worker
from movie_mlops.api.schemas.worker import BatchIn, Entity, FeatureRows, FeaturesOut
from movie_mlops.domain.interactions import parse_user_id
from movie_mlops.domain.movies import parse_movie_id

router = APIRouter(tags=["features"])
EntityId = Annotated[str, Path(min_length=1, max_length=200, examples=["movie_42"])]


@router.get("/api/v1/features/{entity}/{entity_id}", response_model=FeaturesOut)
async def get_features(
    entity: Entity, entity_id: EntityId, worker: Worker, sees: MaySeeOf, request: Request
) -> Response:
    """The online features of one film or viewer."""
    if entity == "user":
        sees(parse_user_id(entity_id))
    else:
        parse_movie_id(entity_id)
    return await worker.forward(request)


@router.post("/api/v1/features/batch", response_model=FeatureRows)
async def get_batch_features(
    body: BatchIn, worker: Worker, sees: MaySeeOf, request: Request
) -> Response:
    """The online features of several films or viewers, in order."""
    for each in body.entity_ids:
        if body.entity_type == "user":
            sees(parse_user_id(each))
        else:
            parse_movie_id(each)
    return await worker.forward(request)
