"""The registry and the pipelines: checked here, answered by the worker."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Request, Response

from movie_mlops.api.dependencies import ADMIN, READ, WRITE, Worker
from movie_mlops.api.schemas.worker import (
    ExperimentIn,
    ExperimentOut,
    ExperimentsOut,
    ModelVersions,
    PromotionIn,
    RegisteredModels,
    RunsOut,
    RunStarted,
    TransitionIn,
    VersionOut,
)

router = APIRouter(tags=["worker"])
Name = Annotated[str, Path(min_length=1, max_length=200)]
_READ: dict[str, Any] = {"dependencies": [READ]}
_CHANGE: dict[str, Any] = {"dependencies": [WRITE, ADMIN]}


@router.get("/mlflow/experiments", response_model=ExperimentsOut, **_READ)
async def list_experiments(request: Request, worker: Worker) -> Response:
    """All experiments."""
    return await worker.forward(request)


@router.post("/mlflow/experiments", response_model=ExperimentOut, status_code=201, **_CHANGE)
async def create_experiment(body: ExperimentIn, request: Request, worker: Worker) -> Response:
    """Make an experiment; needs a key with the scope admin."""
    del body  # the worker reads it again
    return await worker.forward(request)


@router.get("/mlflow/models", response_model=RegisteredModels, **_READ)
async def list_models(request: Request, worker: Worker) -> Response:
    """All registered models with their latest versions."""
    return await worker.forward(request)


@router.get("/mlflow/models/{name}", response_model=ModelVersions, **_READ)
async def get_model(name: Name, request: Request, worker: Worker) -> Response:
    """One registered model."""
    del name
    return await worker.forward(request)


@router.post("/mlflow/models/stage-transition", response_model=VersionOut, **_CHANGE)
async def transition_stage(body: TransitionIn, request: Request, worker: Worker) -> Response:
    """Move a version to another stage; needs a key with the scope admin."""
    del body
    return await worker.forward(request)


@router.post("/mlflow/models/{name}/promote-to-production", response_model=VersionOut, **_CHANGE)
async def promote_to_production(
    name: Name, body: PromotionIn, request: Request, worker: Worker
) -> Response:
    """Make a version champion; needs a key with the scope admin."""
    del name, body
    return await worker.forward(request)


@router.get("/api/v1/pipelines/runs", response_model=RunsOut, **_READ)
async def list_pipeline_runs(request: Request, worker: Worker) -> Response:
    """The latest pipeline runs."""
    return await worker.forward(request)


@router.get("/api/v1/pipelines/runs/{run_id}", response_model=dict[str, Any], **_READ)
async def get_pipeline_run(run_id: Name, request: Request, worker: Worker) -> Response:
    """One pipeline run."""
    del run_id
    return await worker.forward(request)


@router.post("/api/v1/pipelines/{name}/runs", response_model=RunStarted, status_code=202, **_CHANGE)
async def start_pipeline_run(
    name: Name,
    request: Request,
    worker: Worker,
    body: Annotated[dict[str, Any] | None, Body(max_length=50)] = None,
) -> Response:
    """Start a run of a pipeline; needs a key with the scope admin."""
    del name, body
    return await worker.forward(request)
