"""Recommended films: the list with reasons, and the guide's lists of ids."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from movie_mlops.api.dependencies import (
    POSITION,
    JsonBytes,
    LanguageOf,
    ListLength,
    Services,
    UserOf,
)
from movie_mlops.api.errors import request_id_of
from movie_mlops.api.schemas.movies import movie_json, title_in
from movie_mlops.api.schemas.recommendations import (
    BatchUser,
    ManyUserIds,
    Recommendations,
    RecommendedIds,
    UserIds,
)
from movie_mlops.domain.interactions import UserId
from movie_mlops.domain.recommendations import Path, ScoredMovie
from movie_mlops.models.serving.posters import Language
from movie_mlops.models.serving.recommender import ANONYMOUS
from movie_mlops.models.serving.services import ApiServices

router = APIRouter(tags=["recommendations"])
_LATIN_OR_DIGIT = "을(를)"
_WITHOUT_HISTORY: dict[Language, str] = {"en": "Popular with everyone", "ko": "많이 본 작품"}
_NO_SINGLE_REASON: dict[Language, str] = {"en": "Fits what you watch", "ko": "취향에 맞는 작품"}


@router.get("/api/v1/recommendations", response_model=Recommendations, dependencies=[POSITION])
async def get_recommendations(
    request: Request,
    services: Services,
    user_id: UserOf,
    language: LanguageOf,
    k: ListLength = 10,
    expand: Annotated[
        Literal["movie"] | None, Query(description="`movie` adds each film's details.")
    ] = None,
) -> Response:
    """The k best films that the viewer has not seen, each with its reason."""
    made = services.recommender.recommend(user_id if user_id is not None else ANONYMOUS, k)
    shown = services if expand else None
    return JsonBytes(
        {
            "user_id": user_id,
            "k": k,
            "path": made.path,
            "model_version": made.model_version,
            "snapshot": made.snapshot,
            "request_id": request_id_of(request),
            "items": [_item(item, made.path, language, services, shown) for item in made.items],
        }
    )


@router.get("/batch-predict", response_model=RecommendedIds, dependencies=[POSITION])
async def get_batch_prediction(services: Services, user_id: UserOf, k: ListLength = 10) -> Response:
    """The guide's list of ids, for one viewer or for nobody in particular."""
    return ids_answer(services, user_id, k)


@router.post("/batch-predict", response_model=UserIds | ManyUserIds)
def post_batch_prediction(
    body: BatchUser | Annotated[list[BatchUser], Field(max_length=500)], services: Services
) -> Response:
    """One viewer's ids, or those of several in order."""
    if isinstance(body, list):
        return JsonBytes({"results": [_of_user(services, user) for user in body]})
    return JsonBytes(_of_user(services, body))


def ids_answer(services: ApiServices, user_id: UserId | None, k: int) -> Response:
    """The guide's list of ids."""
    return JsonBytes({"recommended_content_id": _ids(services, user_id or ANONYMOUS, k)})


def _of_user(services: ApiServices, user: BatchUser) -> dict[str, Any]:
    ids = _ids(services, UserId(user.user_id), user.k)
    return {"user_id": user.user_id, "recommended_content_id": ids}


def _ids(services: ApiServices, user_id: UserId, k: int) -> list[int]:
    return [item.movie_id for item in services.recommender.recommend(user_id, k).items]


def _item(
    item: ScoredMovie,
    path: Path,
    language: Language,
    services: ApiServices,
    expanded: ApiServices | None,
) -> dict[str, Any]:
    movie = services.catalogue.get(item.movie_id)
    titles = [
        title_in(services.catalogue.get(because), language)
        for because in item.because
        if because in services.catalogue
    ]
    shown = {
        "movie_id": item.movie_id,
        "title": title_in(movie, language),
        "score": item.score,
        "reason": {"text": reason_text(titles, path, language), "because": item.because},
    }
    if expanded is not None:
        shown["movie"] = movie_json(movie, language, expanded.posters)
    return shown


def reason_text(titles: list[str], path: Path, language: Language) -> str:
    """The reason as one line."""
    if not titles:
        return (_NO_SINGLE_REASON if path == "personal" else _WITHOUT_HISTORY)[language]
    if language == "ko":
        quoted = ", ".join(f"«{title}»" for title in titles)
        return f"{quoted}{_object_particle(titles[-1])} 봐서"
    return f"Because you watched {' and '.join(titles)}"


def _object_particle(word: str) -> str:
    last = word.rstrip(" .!?\"')")[-1:]
    if "가" <= last <= "힣":
        return "을" if (ord(last) - ord("가")) % 28 else "를"
    return _LATIN_OR_DIGIT
