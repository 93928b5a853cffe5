"""The front door: the page for browsers, JSON for programs, the guide's list for `?k=`."""

from html import escape
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import FileResponse, HTMLResponse
from starlette.staticfiles import StaticFiles

from movie_mlops.api.access import must_have
from movie_mlops.api.dependencies import POSITION, JsonBytes, Services, UserOf
from movie_mlops.api.errors import request_id_of
from movie_mlops.api.routers.health import VERSION
from movie_mlops.api.routers.recommendations import ids_answer

PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: https://image.tmdb.org; "
        "style-src 'self'; connect-src 'self'; object-src 'none'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-cache",
    "Vary": "Accept",
}
_LINKS = {
    "recommendations": "/api/v1/recommendations?k=10",
    "movies": "/api/v1/movies",
    "health": "/health",
    "metrics": "/metrics",
    "documentation": "/docs",
}
_NO_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>movie-mlops</title>
<body><h1>movie-mlops</h1>
<p>The API runs; the page is not built. Install Node.js 20 or later and run
<code>make up</code> again: it builds the page.</p>
<ul>{links}</ul></body></html>
"""


def page_router(folder: Path | None) -> APIRouter:
    """The routes of the page in `folder` (Vite's output), or of a hint how to get it."""
    router = APIRouter(tags=["page"])
    index = folder / "index.html" if folder is not None else None

    @router.get("/", dependencies=[POSITION])
    async def get_front_door(
        request: Request,
        services: Services,
        user_id: UserOf,
        k: Annotated[int | None, Query(ge=1, le=100, description="The guide's list.")] = None,
    ) -> Response:
        """With `k` the guide's list of ids, else the page or what this service is."""
        if k is not None:
            must_have(request, "read")
            return ids_answer(services, user_id, k, request_id_of(request))
        if "text/html" not in request.headers.get("accept", ""):
            body = {"service": "movie-mlops", "version": VERSION, "links": _LINKS}
            return JsonBytes(body, headers={"Vary": "Accept"})
        if index is not None and index.is_file():
            return FileResponse(index, headers=PAGE_HEADERS)
        links = "".join(f'<li><a href="{escape(to)}">{name}</a>' for name, to in _LINKS.items())
        return HTMLResponse(_NO_PAGE.format(links=links), headers=PAGE_HEADERS)

    if folder is not None and (folder / "assets").is_dir():
        assets = _HashedFiles(directory=folder / "assets")
        router.mount("/assets", assets, name="assets")
        for file in sorted(folder.iterdir()):
            if file.is_file() and file.name != "index.html":
                _add_file(router, file)
    return router


class _HashedFiles(StaticFiles):
    """Files whose names change with their content, so they may be kept for ever."""

    def file_response(self, *args: Any, **named: Any) -> Response:
        answer = super().file_response(*args, **named)
        answer.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return answer


def _add_file(router: APIRouter, file: Path) -> None:
    async def get_file() -> Response:
        return FileResponse(file, headers={"Cache-Control": "max-age=3600"})

    router.add_api_route(f"/{file.name}", get_file, include_in_schema=False)
