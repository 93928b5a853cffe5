"""The registry and the pipelines: checked here, answered by the worker."""

from fastapi import APIRouter, Request, Response

from movie_mlops.api.dependencies import ADMIN, WRITE, Worker

router = APIRouter()


async def read(request: Request, worker: Worker) -> Response:
    """Answered by the worker; 503 with Retry-After while there is none."""
    return await worker.forward(request)


async def change(request: Request, worker: Worker) -> Response:
    """Needs the admin key in X-API-Key; answered by the worker."""
    return await worker.forward(request)


_READS = {
    "/mlflow/experiments": "All experiments",
    "/mlflow/models": "All registered models with their latest versions",
    "/mlflow/models/{name}": "One registered model",
    "/api/v1/pipelines/runs": "The latest pipeline runs",
    "/api/v1/pipelines/runs/{run_id}": "One pipeline run",
}
_CHANGES = {
    "/mlflow/experiments": "Make an experiment: `{name, description}`",
    "/mlflow/models/stage-transition": "Move a version: `{model_name, version, stage}`",
    "/mlflow/models/{name}/promote-to-production": "Make a version champion: `{version}`",
    "/api/v1/pipelines/{name}/runs": "Start a run of a pipeline",
}

for path, summary in _READS.items():
    router.add_api_route(path, read, methods=["GET"], summary=summary, tags=["worker"])
for path, summary in _CHANGES.items():
    router.add_api_route(
        path,
        change,
        methods=["POST"],
        summary=summary,
        tags=["worker"],
        dependencies=[WRITE, ADMIN],
    )
