"""The catalogue: films, search, likeness, posters; and the simulated people."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from movie_mlops.api.dependencies import LanguageOf, ListLength, Services
from movie_mlops.api.schemas.movies import (
    MovieList,
    MovieOut,
    MoviePage,
    PeopleOut,
    PersonOut,
    SimilarMovie,
    SimilarMovies,
    title_in,
)
from movie_mlops.domain.movies import parse_movie_id

router = APIRouter(tags=["movies"])
_SHOWN_PEOPLE = 50


@router.get("/api/v1/movies")
async def list_movies(
    services: Services,
    language: LanguageOf,
    limit: ListLength = 20,
    cursor: Annotated[
        str | None, Query(pattern=r"^\d{1,16}$", description="`next_cursor` of the page before.")
    ] = None,
) -> MoviePage:
    """All films in order of id, page by page."""
    films = services.catalogue.page(int(cursor or 0), limit + 1)
    more = len(films) > limit
    return MoviePage.model_construct(
        items=[MovieOut.of(film, language, services.posters) for film in films[:limit]],
        next_cursor=str(films[limit - 1].movie_id) if more else None,
    )


@router.get("/api/v1/movies/search")
def search_movies(
    services: Services,
    language: LanguageOf,
    q: Annotated[str, Query(min_length=1, max_length=100, description="Part of a title.")],
    limit: ListLength = 20,
) -> MovieList:
    """Films with this text in a Korean, English or original title."""
    found = services.catalogue.search(q, limit)
    return MovieList(items=[MovieOut.of(film, language, services.posters) for film in found])


@router.get("/api/v1/movies/{movie_id}")
async def get_movie(movie_id: str, services: Services, language: LanguageOf) -> MovieOut:
    """One film; the id is written 123 or movie_123."""
    film = services.catalogue.get(parse_movie_id(movie_id))
    return MovieOut.of(film, language, services.posters)


@router.get("/api/v1/movies/{movie_id}/similar")
async def get_similar_movies(
    movie_id: str, services: Services, language: LanguageOf, k: ListLength = 10
) -> SimilarMovies:
    """The films most like this one."""
    wanted = parse_movie_id(movie_id)
    items = []
    for found in services.recommender.similar(wanted, k):
        film = services.catalogue.get(found.movie_id)
        items.append(
            SimilarMovie(
                movie_id=film.movie_id,
                title=title_in(film, language),
                similarity=found.score,
                poster_url=services.posters.url(film, language),
            )
        )
    return SimilarMovies(movie_id=wanted, items=items)


@router.get("/api/v1/people")
async def list_people(services: Services) -> PeopleOut:
    """Simulated viewers whom the page lets one be; a real data set has anonymous ones."""
    people = services.people.all[:_SHOWN_PEOPLE]
    if people:
        items = [
            PersonOut(
                user_id=person.user_id,
                name=person.name,
                name_ko=person.name_ko or person.name,
                taste=person.taste,
                taste_ko=person.taste_ko,
            )
            for person in people
        ]
        return PeopleOut(simulated=True, items=items)
    items = [
        PersonOut(
            user_id=user, name=f"Viewer {user}", name_ko=f"시청자 {user}", taste=None, taste_ko=None
        )
        for user in services.histories.some_users(_SHOWN_PEOPLE)
    ]
    return PeopleOut(simulated=False, items=items)


@router.get("/posters/{movie_id}.svg", response_class=Response)
def get_poster(
    movie_id: str,
    services: Services,
    language: LanguageOf,
    if_none_match: Annotated[str | None, Header(max_length=500)] = None,
) -> Response:
    """The drawn poster; its address carries a version, so it is cached for ever."""
    poster = services.posters.draw(services.catalogue.get(parse_movie_id(movie_id)), language)
    tag = f'"{poster.version}"'
    headers = {
        "ETag": tag,
        "Cache-Control": "public, max-age=31536000, immutable",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    }
    if if_none_match is not None and tag in if_none_match:
        return Response(status_code=304, headers=headers)
    return Response(poster.svg, headers=headers, media_type="image/svg+xml")
