"""Recommended films: the list with reasons, and the guide's lists of ids."""

from typing import Annotated, Any, Literal, NamedTuple

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from movie_mlops.api.dependencies import (
    POSITION,
    JsonBytes,
    LanguageOf,
    ListLength,
    MaySeeOf,
    Services,
    UserOf,
)
from movie_mlops.api.errors import request_id_of
from movie_mlops.api.schemas.ids import films_of
from movie_mlops.api.schemas.movies import movie_json
from movie_mlops.api.schemas.recommendations import (
    BatchUser,
    ManyUserIds,
    Recommendations,
    RecommendedIds,
    UserIds,
)
from movie_mlops.domain.interactions import UserId
from movie_mlops.domain.recommendations import Path, RecommendationList, ScoredMovie
from movie_mlops.domain.versions import Alias
from movie_mlops.models.serving.posters import Language
from movie_mlops.models.serving.recommender import ANONYMOUS, USUAL, Wish, effects
from movie_mlops.models.serving.services import ApiServices

router = APIRouter(tags=["recommendations"])
_LATIN_OR_DIGIT = "을(를)"
_WITHOUT_HISTORY: dict[Language, str] = {"en": "Popular with everyone", "ko": "많이 본 작품"}
_NEW: dict[Language, str] = {"en": "New, like {}", "ko": "«{}» 같은 새 작품"}
_NO_SINGLE_REASON: dict[Language, str] = {"en": "Fits what you watch", "ko": "취향에 맞는 작품"}


class Asked(NamedTuple):
    """What a list depends on, beside what is known of the viewer."""

    user_id: UserId | None
    k: int
    language: Language
    expanded: bool


async def get_asked(
    user_id: UserOf,
    language: LanguageOf,
    k: ListLength = 10,
    expand: Annotated[
        Literal["movie"] | None, Query(description="`movie` adds each film's details.")
    ] = None,
) -> Asked:
    """What the query asks for."""
    return Asked(user_id, k, language, expand is not None)


async def get_wish(
    without: Annotated[
        str,
        Query(
            max_length=2_000,
            examples=["42,43"],
            description="Film ids between commas: as if these had never been liked or watched.",
        ),
    ] = "",
    diversity: Annotated[
        float,
        Query(
            ge=0,
            le=1,
            description="A dial: 0 ranks by score alone; towards 1, films differ more from each "
            "other and the list's genres come nearer to those of the viewer's films.",
        ),
    ] = 0.0,
) -> Wish:
    """How the query wants the list to differ from the usual one.

    Raises:
        InvalidIdError: `without` names what can be no film, or too many.
    """
    return Wish(films_of(without), diversity)


@router.get("/api/v1/recommendations", response_model=Recommendations, dependencies=[POSITION])
async def get_recommendations(
    request: Request,
    services: Services,
    asked: Annotated[Asked, Depends(get_asked)],
    wish: Annotated[Wish, Depends(get_wish)],
) -> Response:
    """The k best films that the viewer has not seen, each with its reason.

    `without` gives the list as if these films had never been liked or watched: it is made from
    the history without them, so that older films move up by a place. It is not the list with
    their contributions taken off; the two agree where no film is older. They stay hidden.
    """
    viewer = asked.user_id if asked.user_id is not None else ANONYMOUS
    made = make_list(services, viewer, asked.k, request_id_of(request), wish)
    answer = list_answer(services, made, asked, request_id_of(request))
    if wish.without:
        answer["without"] = sorted(wish.without)
    if wish.diversity:
        answer["diversity"] = wish.diversity
    return JsonBytes(answer)


@router.get("/batch-predict", response_model=RecommendedIds, dependencies=[POSITION])
async def get_batch_prediction(
    request: Request, services: Services, user_id: UserOf, k: ListLength = 10
) -> Response:
    """The guide's list of ids, for one viewer or for nobody in particular."""
    return ids_answer(services, user_id, k, request_id_of(request))


@router.post("/batch-predict", response_model=UserIds | ManyUserIds)
def post_batch_prediction(
    request: Request,
    body: BatchUser | Annotated[list[BatchUser], Field(max_length=500)],
    services: Services,
    sees: MaySeeOf,
) -> Response:
    """One viewer's ids, or those of several in order."""
    request_id = request_id_of(request)
    for user in body if isinstance(body, list) else [body]:
        sees(user.user_id)
    if isinstance(body, list):
        return JsonBytes({"results": [_of_user(services, user, request_id) for user in body]})
    return JsonBytes(_of_user(services, body, request_id))


def list_answer(
    services: ApiServices, made: RecommendationList, asked: Asked, request_id: str
) -> dict[str, Any]:
    """A list as it is answered."""
    shown = services if asked.expanded else None
    return {
        "user_id": asked.user_id,
        "k": asked.k,
        "path": made.path,
        "model_version": made.model_version,
        "snapshot": made.snapshot,
        "request_id": request_id,
        "items": [_item(item, made.path, asked.language, services, shown) for item in made.items],
    }


def make_list(
    services: ApiServices, user_id: UserId, k: int, request_id: str, wish: Wish = USUAL
) -> RecommendationList:
    """The list from the model of the viewer's arm, noted as shown; with a wish, outside any test.

    Only the usual lists compare the arms.
    """
    arm = services.audience.trial.arm_of(user_id)
    alias = Alias.CHAMPION if arm is None else arm.alias
    if wish == USUAL:
        made = services.recommender.recommend(user_id, k, alias)
        services.audience.show(request_id, made, arm, k)
        return made
    made = services.recommender.list_as_wished(user_id, k, wish, alias)
    for counter, amount in effects(made):
        counter.inc(amount)
    services.audience.show(request_id, made, None, k)
    return made


def ids_answer(services: ApiServices, user_id: UserId | None, k: int, request_id: str) -> Response:
    """The guide's list of ids."""
    return JsonBytes(
        {"recommended_content_id": _ids(services, user_id or ANONYMOUS, k, request_id)}
    )


def _of_user(services: ApiServices, user: BatchUser, request_id: str) -> dict[str, Any]:
    ids = _ids(services, UserId(user.user_id), user.k, request_id)
    return {"user_id": user.user_id, "recommended_content_id": ids}


def _ids(services: ApiServices, user_id: UserId, k: int, request_id: str) -> list[int]:
    return [item.movie_id for item in make_list(services, user_id, k, request_id).items]


def _item(
    item: ScoredMovie,
    path: Path,
    language: Language,
    services: ApiServices,
    expanded: ApiServices | None,
) -> dict[str, Any]:
    title_of = services.catalogue.title
    titles = [title for film in item.because if (title := title_of(film, language)) is not None]
    text = reason_text(titles, path, language)
    if item.new_like is not None:
        like = title_of(item.new_like, language)
        text = _NEW[language].format(like) if like is not None else text
    shown = {
        "movie_id": item.movie_id,
        "title": title_of(item.movie_id, language) or str(item.movie_id),
        "score": item.score,
        "reason": {"text": text, "because": item.because},
    }
    if expanded is not None:
        movie = services.catalogue.get(item.movie_id)
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
