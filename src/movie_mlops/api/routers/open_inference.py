"""The Open Inference Protocol v2 (KServe's), for both registered models."""

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from movie_mlops.api.dependencies import JsonBytes, MaySee, MaySeeOf, Services
from movie_mlops.api.errors import InferenceInputError, request_id_of
from movie_mlops.api.routers.health import VERSION
from movie_mlops.api.schemas.open_inference import (
    InferIn,
    InferOut,
    ModelOut,
    ModelReadyOut,
    ModelsOut,
    ServerOut,
    TensorOut,
)
from movie_mlops.api.schemas.predictions import MovieIn
from movie_mlops.api.schemas.tensors import COLUMNS, OUTPUTS, read_columns
from movie_mlops.domain.errors import (
    EngineUnavailableError,
    InvalidIdError,
    ModelVersionNotFoundError,
)
from movie_mlops.domain.interactions import parse_user_id
from movie_mlops.domain.versions import MOVIE_PREDICTOR, MOVIE_RECOMMENDER, Alias
from movie_mlops.models.serving.model_loader import LoadedModel
from movie_mlops.models.serving.services import ApiServices

router = APIRouter(prefix="/v2", tags=["open inference"])
_MOST_FILMS = 100
_NO_FILM = -1  # fills a row whose list is shorter than k
_Columns = dict[str, list[Any]]
_Answer = tuple[dict[str, list[Any]], list[int]]
"""Flat data by output, and the shape that all of them have."""


@router.get("")
async def get_server() -> ServerOut:
    """What this server is."""
    return ServerOut(name="movie-mlops", version=VERSION, extensions=[])


@router.get("/models")
async def list_served_models() -> ModelsOut:
    """The models of this server."""
    return ModelsOut(models=list(COLUMNS))


@router.get("/models/{model_name}")
async def get_model_metadata(model_name: str, services: Services) -> ModelOut:
    """What a model takes and gives."""
    return _metadata(services, model_name)


@router.get("/models/{model_name}/versions/{model_version}")
async def get_version_metadata(model_name: str, model_version: str, services: Services) -> ModelOut:
    """The same of one served version."""
    _served(services, model_name, model_version)
    return _metadata(services, model_name)


@router.get("/models/{model_name}/ready")
async def get_model_ready(model_name: str, services: Services) -> ModelReadyOut:
    """Whether a model can answer; 503 while it is not loaded."""
    _served(services, model_name, None)
    return ModelReadyOut(name=model_name, ready=True)


@router.get("/models/{model_name}/versions/{model_version}/ready")
async def get_version_ready(
    model_name: str, model_version: str, services: Services
) -> ModelReadyOut:
    """Whether this version can answer."""
    _served(services, model_name, model_version)
    return ModelReadyOut(name=model_name, ready=True)


@router.post("/models/{model_name}/infer", response_model=InferOut)
def infer(
    model_name: str, body: InferIn, services: Services, sees: MaySeeOf, request: Request
) -> Response:
    """Predict ratings of films, or recommend films to users.

    `movie_predictor`: columns of one length n. `movie_recommender`: `user_id` [n], `k` [1] (10
    without); a list shorter than k is filled with the film -1.
    """
    return _infer((model_name, None), body, services, sees, request_id_of(request))


@router.post("/models/{model_name}/versions/{model_version}/infer", response_model=InferOut)
def infer_version(
    model_name: str,
    model_version: str,
    body: InferIn,
    services: Services,
    sees: MaySeeOf,
    request: Request,
) -> Response:
    """The same by one served version."""
    return _infer((model_name, model_version), body, services, sees, request_id_of(request))


def _infer(
    model: tuple[str, str | None],
    body: InferIn,
    services: ApiServices,
    sees: MaySee,
    request_id: str,
) -> Response:
    name, _ = model
    alias, loaded = _served(services, *model)
    columns = read_columns(name, body)
    wanted = [output.name for output in body.outputs] if body.outputs else list(OUTPUTS[name])
    for output in wanted:
        if output not in OUTPUTS[name]:
            message = f"{name} has no output {output[:80]!r}; it has {', '.join(OUTPUTS[name])}"
            raise InferenceInputError(message)
    if name == MOVIE_PREDICTOR:
        data, shape = _ratings(services, columns, request_id)
    else:
        data, shape = _lists(services, columns, (alias, sees), request_id)
    outputs = [
        {
            "name": output,
            "shape": shape,
            "datatype": OUTPUTS[name][output][0],
            "parameters": None,
            "data": data[output],
        }
        for output in wanted
    ]
    return JsonBytes(
        {
            "model_name": name,
            "model_version": loaded.entry.version,
            "id": body.id or request_id,
            "parameters": {"snapshot": loaded.entry.snapshot},
            "outputs": outputs,
        }
    )


def _metadata(services: ApiServices, name: str) -> ModelOut:
    _check_name(name)
    loaded = services.loader.get(name)
    return ModelOut(
        name=name,
        versions=[each.entry.version for _, each in _versions(services, name)],
        platform=f"movie_mlops_{loaded.entry.algorithm}" if loaded else "movie_mlops",
        inputs=[
            TensorOut(name=column, datatype=takes[0], shape=[-1])  # type: ignore[arg-type]
            for column, (takes, _) in COLUMNS[name].items()
        ],
        outputs=[
            TensorOut(name=output, datatype=kind, shape=shape)  # type: ignore[arg-type]
            for output, (kind, shape) in OUTPUTS[name].items()
        ],
    )


def _versions(services: ApiServices, name: str) -> list[tuple[Alias, LoadedModel]]:
    """The versions that can be asked for."""
    # the rating service predicts with its champion only
    aliases = [Alias.CHAMPION, *([Alias.CHALLENGER] if name == MOVIE_RECOMMENDER else [])]
    found = [(alias, services.loader.get(name, alias)) for alias in aliases]
    return [(alias, loaded) for alias, loaded in found if loaded is not None]


def _check_name(name: str) -> None:
    if name not in COLUMNS:
        message = f"Model with name {name[:100]} does not exist; /v2/models lists them"
        raise ModelVersionNotFoundError(message)


def _served(services: ApiServices, name: str, version: str | None) -> tuple[Alias, LoadedModel]:
    _check_name(name)
    served = _versions(services, name)
    if not served:
        message = f"Model with name {name} is not ready; its training pipeline runs first"
        raise EngineUnavailableError(message, retry_after_seconds=10.0)
    for alias, loaded in served:
        if version in (None, loaded.entry.version):
            return alias, loaded
    message = f"{name} is not served in version {str(version)[:80]}; /v2/models/{name} lists them"
    raise ModelVersionNotFoundError(message)


def _ratings(services: ApiServices, columns: _Columns, request_id: str) -> _Answer:
    count = len(columns["startYear"])
    if {len(values) for values in columns.values()} != {count} or not count:
        message = "the inputs are columns of one length, at least 1"
        raise InferenceInputError(message)
    names, films = list(columns), []
    for row, values in enumerate(zip(*columns.values(), strict=True)):
        film = dict(zip(names, values, strict=True))
        film["genres"] = [name for name in (film.get("genres") or "").split(",") if name]
        try:
            films.append(MovieIn.model_validate(film).to_facts())
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            message = f"row {row}, {place}: {first['msg']}"
            raise InferenceInputError(message) from None
    found = services.ratings.predict(films)
    shown = services.audience.trial.ratings_shown(found, films[0] if count == 1 else None)
    services.audience.exposures.note(request_id, shown)
    data = {name: [getattr(each, name) for each in found] for name in OUTPUTS[MOVIE_PREDICTOR]}
    return data, [count]


def _lists(
    services: ApiServices, columns: _Columns, asked: tuple[Alias, MaySee], request_id: str
) -> _Answer:
    alias, sees = asked
    lengths = columns.get("k", [10])
    if len(lengths) != 1 or not lengths[0] or not 1 <= lengths[0] <= _MOST_FILMS:
        message = f"k is one number, 1 to {_MOST_FILMS}"
        raise InferenceInputError(message)
    k: int = lengths[0]
    users = []
    for given in columns["user_id"]:
        try:
            user_id = parse_user_id("" if given is None else given)
        except InvalidIdError as error:
            raise InferenceInputError(str(error)) from None
        sees(user_id)
        users.append(user_id)
    films: list[int] = []
    scores: list[float] = []
    for user_id in users:
        made = services.recommender.recommend(user_id, k, alias)
        services.audience.show(request_id, made, None, k)
        items, empty = made.items, k - len(made.items)
        films += [item.movie_id for item in items] + [_NO_FILM] * empty
        scores += [item.score for item in items] + [0.0] * empty
    return {"movie_id": films, "score": scores}, [len(columns["user_id"]), k]
