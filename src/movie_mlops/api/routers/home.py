"""A home page's rows, and why a film stands where it stands."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from movie_mlops.api.dependencies import (
    POSITION,
    JsonBytes,
    LanguageOf,
    MaySee,
    Services,
    UserOf,
    get_caller_sight,
)
from movie_mlops.api.errors import request_id_of
from movie_mlops.api.routers.recommendations import reason_text
from movie_mlops.api.schemas.ids import MovieIdIn
from movie_mlops.api.schemas.movies import movie_json
from movie_mlops.api.schemas.recommendations import ExplanationOut, HomeOut
from movie_mlops.domain.interactions import parse_user_id
from movie_mlops.domain.movies import GENRES_KO, MovieId
from movie_mlops.models.serving.posters import Language
from movie_mlops.models.serving.recommender import ANONYMOUS, effects
from movie_mlops.models.serving.services import ApiServices
from movie_mlops.models.serving.shelves import Row

router = APIRouter(tags=["recommendations"])
_TITLES: dict[str, dict[Language, str]] = {
    "for_you": {"en": "Picked for you", "ko": "좋아할 만한 콘텐츠"},
    "popular": {"en": "Popular this week", "ko": "이번 주 인기 콘텐츠"},
    "new": {"en": "New", "ko": "새로 나온 콘텐츠"},
    "genre": {"en": "{}", "ko": "{}"},
}


@router.get(
    "/api/v1/recommendations/{user_id}/explanation",
    response_model=ExplanationOut,
    dependencies=[POSITION],
)
def explain_recommendation(
    request: Request,
    user_id: str,
    movie_id: Annotated[MovieIdIn, Query(description="Whose score is taken apart.")],
    services: Services,
    language: LanguageOf,
    may_see: Annotated[MaySee, Depends(get_caller_sight)],
) -> Response:
    """What each film of the viewer's history gives to a film's score, the most first.

    Exact for linear models: `baseline` and the contributions add up to `score`. A contribution
    is the film's term in that sum, with all others where they are. A list as if a film had never
    been watched is another question, as older films then move up: that is `without` of
    `/api/v1/recommendations`.
    """
    viewer = parse_user_id(user_id)
    may_see(viewer)
    alias = services.audience.trial.alias_of(viewer)
    found = services.recommender.explain(viewer, MovieId(movie_id), alias)
    parts = [
        {
            "movie_id": part.movie_id,
            "title": services.catalogue.title(part.movie_id, language) or str(part.movie_id),
            "contribution": part.contribution,
            "age": part.age,
        }
        for part in found.contributions
    ]
    return JsonBytes(
        {
            "user_id": viewer,
            "movie_id": found.movie_id,
            "score": found.score,
            "baseline": found.baseline,
            "exact": found.exact,
            "contributions": parts,
            "rank": found.rank,
            "model_version": found.model_version,
            "snapshot": found.snapshot,
            "request_id": request_id_of(request),
        }
    )


@router.get("/api/v1/home", response_model=HomeOut, dependencies=[POSITION])
def get_home(
    request: Request,
    services: Services,
    user_id: UserOf,
    language: LanguageOf,
    k: Annotated[int, Query(ge=1, le=50, description="Films per row, at most.")] = 10,
    for_you: Annotated[bool, Query(description="Begin with the viewer's own list.")] = True,
) -> Response:
    """The rows of a home page: the viewer's list, like what was watched last, popular, new, genres.

    Only films that the viewer may be shown, each in one row; rows without any film are left out.
    A page that has the list already says `for_you=false`: the other rows are the same, and no list
    is noted as shown.
    """
    viewer = user_id if user_id is not None else ANONYMOUS
    arm = services.audience.trial.arm_of(viewer)
    page = services.shelves.home(viewer, k, services.audience.trial.alias_of(viewer))
    if for_you:
        for counter, amount in effects(page.made):
            counter.inc(amount)
        services.audience.show(request_id_of(request), page.made, arm, k)
    return JsonBytes(
        {
            "user_id": user_id,
            "k": k,
            "path": page.made.path,
            "model_version": page.made.model_version,
            "snapshot": page.made.snapshot,
            "request_id": request_id_of(request),
            "rows": [
                _row(services, row, language)
                for row in page.rows
                if for_you or row.key != "for_you"
            ],
        }
    )


def _row(services: ApiServices, row: Row, language: Language) -> dict[str, Any]:
    if row.key == "because":
        title = services.catalogue.title(int(row.about or 0), language) or str(row.about)
        title = reason_text([title], "personal", language)
    else:
        about = str(row.about)
        name = GENRES_KO.get(about, about) if language == "ko" else about
        title = _TITLES[row.key][language].format(name)
    films = [services.catalogue.get(film) for film in row.movie_ids]
    return {
        "key": row.key,
        "title": title,
        "about": row.about,
        "items": [movie_json(film, language, services.posters) for film in films],
    }
