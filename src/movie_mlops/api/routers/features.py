"""Features of films and viewers, answered by the worker."""

from typing import Literal

from fastapi import APIRouter, Request, Response

from movie_mlops.api.dependencies import Worker

router = APIRouter(tags=["features"])


@router.get("/api/v1/features/{entity}/{entity_id}")
async def get_features(
    entity: Literal["movie", "user"],  # noqa: ARG001 (the worker reads the address)
    entity_id: str,  # noqa: ARG001 (the worker reads the address)
    worker: Worker,
    request: Request,
) -> Response:
    """The online features of one film or viewer."""
    return await worker.forward(request)


@router.post("/api/v1/features/batch")
async def get_batch_features(worker: Worker, request: Request) -> Response:
    """The online features of several: `{entity_ids, features, entity_type}`."""
    return await worker.forward(request)
