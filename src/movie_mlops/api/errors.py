"""The one table of HTTP codes, and the answers (RFC 9457) that errors become."""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from math import ceil
from typing import Any, ClassVar

import msgspec
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from movie_mlops.domain import errors as house

PROBLEM = "application/problem+json"
_MOST_ERRORS = 10


class RequestRefusedError(Exception):
    """A request that is turned away before any work; its text says what to do."""

    retry_after_seconds: float | None = None
    headers: ClassVar[Mapping[str, str]] = {}


class MissingHostError(RequestRefusedError):
    """No Host header."""


class IncompleteBodyError(RequestRefusedError):
    """The client left in the middle of its body."""


class SlowBodyError(RequestRefusedError):
    """The body takes too long to arrive."""


class KeyRequiredError(RequestRefusedError):
    """A key is missing or wrong."""

    headers: ClassVar = {"WWW-Authenticate": "Bearer"}


class ScopeMissingError(RequestRefusedError):
    """The key may not do this."""


class ForeignUserError(RequestRefusedError):
    """The key is bound to another viewer."""


class NotAcceptableError(RequestRefusedError):
    """The client takes nothing that this address gives."""


class UrlTooLongError(RequestRefusedError):
    """The address is over its bound."""


class HeadersTooLargeError(RequestRefusedError):
    """The headers are over their bound."""


class InferenceInputError(RequestRefusedError):
    """Tensors that do not fit the model (Open Inference Protocol)."""


class ForeignHostError(RequestRefusedError):
    """The Host header names nobody here."""


class BodyTooLargeError(RequestRefusedError):
    """The body is over its bound."""


class UnsupportedBodyError(RequestRefusedError):
    """The body is not plain JSON."""


class InvalidRequestError(RequestRefusedError):
    """Well-formed, but not what this route takes."""


class TooManyWritesError(RequestRefusedError):
    """One client writes too fast."""

    def __init__(self, message: str, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


STATUS: Mapping[type[Exception], int] = {
    MissingHostError: 400,
    IncompleteBodyError: 400,
    SlowBodyError: 408,
    InferenceInputError: 400,
    KeyRequiredError: 401,
    ScopeMissingError: 403,
    ForeignUserError: 403,
    NotAcceptableError: 406,
    UrlTooLongError: 414,
    HeadersTooLargeError: 431,
    ForeignHostError: 421,
    BodyTooLargeError: 413,
    UnsupportedBodyError: 415,
    InvalidRequestError: 422,
    TooManyWritesError: 429,
    house.InvalidIdError: 422,
    house.EventError: 422,
    house.EventConflictError: 409,
    house.FeatureMismatchError: 422,
    house.MovieNotFoundError: 404,
    house.ExperimentNotFoundError: 404,
    house.TraceNotFoundError: 404,
    house.ModelVersionNotFoundError: 404,
    house.SnapshotNotFoundError: 404,
    house.FeatureViewNotFoundError: 404,
    house.EntityNotFoundError: 404,
    house.UnknownPipelineError: 404,
    house.PipelineError: 404,
    house.HomeLockedError: 409,
    house.EngineUnavailableError: 503,
    house.MovieMlopsError: 500,
}
"""The nearest base class decides."""

_HINTS = {
    404: "no such address; /docs lists them all",
    405: "this address does not take this method; the header Allow names those it takes",
}


def status_of(error: Exception) -> int:
    """The HTTP code of an error."""
    return next((STATUS[base] for base in type(error).__mro__ if base in STATUS), 500)


def problem(
    status: int,
    detail: str,
    path: str,
    request_id: str,
    more: Mapping[str, Any] | None = None,
) -> Response:
    """An answer that says what is wrong and what to do."""
    more = dict(more or {})
    headers = more.pop("headers", None)
    body = {
        "type": more.pop("type", "about:blank"),
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": _clean(detail),
        "instance": _clean(path[:200]),
        "request_id": request_id,
        **more,
    }
    if path.startswith("/v2/"):
        body["error"] = body["detail"]  # the Open Inference Protocol's own member
    return Response(msgspec.json.encode(body), status, headers, PROBLEM)


def problem_of(error: Exception, path: str, request_id: str) -> Response:
    """The answer that an error of ours becomes."""
    status = status_of(error)
    more: dict[str, Any] = {"type": f"urn:movie-mlops:problem:{_slug(type(error).__name__)}"}
    headers = dict(getattr(error, "headers", {}))
    retry_after = getattr(error, "retry_after_seconds", None)
    if retry_after is not None:
        headers["Retry-After"] = str(max(1, ceil(retry_after)))
    more["headers"] = headers
    return problem(status, str(error), path, request_id, more)


def request_id_of(request: Request) -> str:
    """The id that the middleware gave the request."""
    return str(getattr(request.state, "request_id", ""))


async def answer_error(request: Request, error: Exception) -> Response:
    """FastAPI's handler of the house's errors and of refused requests."""
    return problem_of(error, request.url.path, request_id_of(request))


async def answer_http_error(request: Request, error: Exception) -> Response:
    """FastAPI's handler of errors that the framework raises."""
    assert isinstance(error, HTTPException)  # noqa: S101 (what it is registered for)
    status = 422 if error.status_code == 400 else error.status_code  # only for unreadable bodies
    detail = _HINTS.get(status, str(error.detail))
    headers = dict(error.headers or {})
    if headers.get("Allow"):
        headers["Allow"] = _with_head(headers["Allow"])
    more = {"headers": headers} if headers else {}
    return problem(status, detail, request.url.path, request_id_of(request), more)


async def answer_validation_error(request: Request, error: Exception) -> Response:
    """FastAPI's handler of parameters and bodies that break their schema."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 (what it is registered for)
    found = [_one(item) for item in error.errors()[:_MOST_ERRORS]]
    detail = "; ".join(f"{item['where']}: {item['message']}" for item in found[:3])
    path, request_id = request.url.path, request_id_of(request)
    return problem(422, f"{detail}. /docs shows what is taken", path, request_id, {"errors": found})


def _with_head(allowed: str) -> str:
    """The methods of an Allow header in order; with GET goes HEAD, which the middleware answers."""
    methods = set(allowed.split(", "))
    return ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))


def _one(item: Mapping[str, Any]) -> dict[str, str]:
    where: Sequence[Any] = item.get("loc", ())
    text = ".".join(str(part)[:80] for part in where[1:] or where)
    message = str(item.get("msg", "")).removeprefix("Value error, ")
    return {"where": _clean(text or "body"), "message": _clean(message[:300])}


def _clean(text: str) -> str:
    return text.encode(errors="replace").decode()  # lone surrogates cannot be sent


def _slug(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name.removesuffix("Error")).lower()
