"""The API's own documentation: Swagger UI from this machine, no network and no inline script."""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from fastapi import APIRouter
from starlette.responses import FileResponse, HTMLResponse, Response

router = APIRouter(include_in_schema=False)
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
        "object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>movie-mlops · API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css"></head>
<body><div id="docs"></div>
<script src="/docs/swagger-ui-bundle.js"></script><script src="/docs/start.js"></script>
</body></html>
"""
_START = """SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#docs", deepLinking: true, validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis], layout: "BaseLayout"
});
"""


@router.get("/docs")
async def get_docs() -> Response:
    """The page."""
    return HTMLResponse(_PAGE, headers=_HEADERS)


@router.get("/docs/start.js")
async def get_start() -> Response:
    """What starts it."""
    return Response(_START, media_type="text/javascript")


@router.get("/docs/{name}")
async def get_docs_file(name: Literal["swagger-ui.css", "swagger-ui-bundle.js"]) -> Response:
    """A file of Swagger UI."""
    return FileResponse(_folder() / name, headers={"Cache-Control": "max-age=86400"})


def _folder() -> Path:
    # only its files are used: the package is Swagger UI as its makers build it
    package = find_spec("fastapi_offline")
    assert package is not None, "fastapi-offline is a dependency"  # noqa: S101
    assert package.origin is not None  # noqa: S101 (no namespace package)
    return Path(package.origin).parent / "static"
