"""The catalogue: films, search, likeness, posters; and the simulated people."""

from datetime import date, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from movie_mlops.api.dependencies import (
    NOT_MODIFIED,
    LanguageOf,
    ListLength,
    Services,
    tagged,
    tagged_bytes,
)
from movie_mlops.api.schemas.cursors import CursorIn, cursor_after, read_cursor
from movie_mlops.api.schemas.movies import (
    Genres,
    MovieList,
    MovieOut,
    MoviePage,
    PeopleOut,
    PersonOut,
    PopularMovies,
    SimilarMovie,
    SimilarMovies,
    movie_json,
    title_in,
)
from movie_mlops.domain.movies import GENRES, GENRES_KO, parse_movie_id
from movie_mlops.models.serving.likeness import By
from movie_mlops.models.serving.shelves import WEEK
from movie_mlops.models.serving.trends import DAYS

router = APIRouter(tags=["movies"])
_SHOWN_PEOPLE = 50
_FIRST_DAY = date(1970, 1, 1)
Genre = Literal[GENRES]  # type: ignore[valid-type]


class SvgResponse(Response):
    """A drawing."""

    media_type = "image/svg+xml"


@router.get("/api/v1/movies", response_model=MoviePage, responses=NOT_MODIFIED)
async def list_movies(
    request: Request,
    services: Services,
    language: LanguageOf,
    limit: ListLength = 20,
    cursor: Annotated[
        CursorIn | None, Query(description="`next_cursor` of the page before.")
    ] = None,
) -> Response:
    """All films in order of id, page by page."""
    after = read_cursor(cursor) if cursor is not None else 0
    films = services.catalogue.page(after, limit + 1)
    more = len(films) > limit
    page = {
        "items": [movie_json(film, language, services.posters) for film in films[:limit]],
        "next_cursor": cursor_after(films[limit - 1].movie_id) if more else None,
    }
    return tagged(request, page)


@router.get("/api/v1/movies/search", response_model=MovieList, responses=NOT_MODIFIED)
def search_movies(
    request: Request,
    services: Services,
    language: LanguageOf,
    q: Annotated[str, Query(min_length=1, max_length=100, description="Part of a title.")],
    limit: ListLength = 20,
) -> Response:
    """Films with this text in a Korean, English or original title."""
    found = services.catalogue.search(q, limit)
    items = [movie_json(film, language, services.posters) for film in found]
    return tagged(request, {"items": items})


@router.get("/api/v1/movies/popular", response_model=PopularMovies, responses=NOT_MODIFIED)
def get_popular_movies(
    request: Request,
    services: Services,
    language: LanguageOf,
    days: Annotated[int, Query(ge=1, le=DAYS, description="Length of the window.")] = WEEK,
    genre: Annotated[Genre | None, Query(description="Films of this genre only.")] = None,
    k: ListLength = 10,
) -> Response:
    """The films that most people watched lately, of one genre or of all."""
    trend = services.shelves.popular(days, genre)
    until = None if trend.until is None else _FIRST_DAY + timedelta(days=trend.until)
    items = [
        movie_json(services.catalogue.get(film), language, services.posters) | {"viewers": viewers}
        for film, viewers in zip(
            trend.movie_ids[:k].tolist(), trend.viewers[:k].tolist(), strict=True
        )
    ]
    answer = {
        "days": days,
        "genre": genre,
        "since": until and until - timedelta(days=days - 1),
        "until": until,
        "items": items,
    }
    return tagged(request, answer)


@router.get("/api/v1/genres", response_model=Genres, responses=NOT_MODIFIED)
async def list_genres(request: Request, services: Services) -> Response:
    """The genres of the catalogue; `popular` takes each."""
    counts = services.catalogue.genre_counts()
    items = [
        {"name": name, "name_ko": GENRES_KO[name], "films": count} for name, count in counts.items()
    ]
    return tagged(request, {"items": items})


@router.get("/api/v1/movies/{movie_id}", response_model=MovieOut, responses=NOT_MODIFIED)
async def get_movie(
    request: Request, movie_id: str, services: Services, language: LanguageOf
) -> Response:
    """One film; the id is written 123 or movie_123."""
    film = services.catalogue.get(parse_movie_id(movie_id))
    return tagged(request, movie_json(film, language, services.posters))


@router.get("/api/v1/movies/{movie_id}/similar")
def get_similar_movies(
    movie_id: str,
    services: Services,
    language: LanguageOf,
    k: ListLength = 10,
    by: Annotated[
        By | None,
        Query(
            description="By the `model` or by `content`; left out: by the model, and by content "
            "where it does not know the film yet."
        ),
    ] = None,
) -> SimilarMovies:
    """The films most like this one."""
    wanted = parse_movie_id(movie_id)
    items = []
    measured_by, similar = services.recommender.likeness.of(wanted, k, by)
    for found in similar:
        film = services.catalogue.get(found.movie_id)
        items.append(
            SimilarMovie(
                movie_id=film.movie_id,
                title=title_in(film, language),
                similarity=found.score,
                poster_url=services.posters.url(film, language),
            )
        )
    return SimilarMovies(movie_id=wanted, by=measured_by, items=items)


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


@router.get("/posters/{movie_id}.svg", response_class=SvgResponse, responses=NOT_MODIFIED)
def get_poster(
    request: Request, movie_id: str, services: Services, language: LanguageOf
) -> Response:
    """The drawn poster; its address carries a version, so it is cached for ever."""
    poster = services.posters.draw(services.catalogue.get(parse_movie_id(movie_id)), language)
    headers = {
        "Cache-Control": "public, max-age=31536000, immutable",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    }
    return tagged_bytes(request, poster.svg, SvgResponse.media_type, headers)
