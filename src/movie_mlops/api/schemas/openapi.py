"""The OpenAPI document whole: every error of every route, examples, keys."""

from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from movie_mlops.api.schemas.examples import EXAMPLES, example_of
from movie_mlops.api.schemas.problems import Problem

PROBLEM = "application/problem+json"
TAGS = {
    "recommendations": "Lists of films for a viewer, each with its reasons.",
    "movies": "The catalogue: films, search, likeness, posters, people.",
    "predictions": "Ratings of films, and what is served.",
    "events": "What viewers do.",
    "experiments": "A/B tests with a verdict that may be looked at any time.",
    "features": "Online features, answered by the worker.",
    "worker": "Registry and pipelines, answered by the worker.",
    "open inference": "The Open Inference Protocol v2, as KServe speaks it.",
    "health": "State, readiness, metrics.",
    "page": "The front door.",
}
_ERRORS = {
    400: "No such request can be read, or tensors that do not fit the model.",
    401: "A key is needed, or this one is not known.",
    403: "The key may not do this, or is bound to another viewer.",
    404: "There is no such thing.",
    406: "The client takes nothing that this address gives.",
    408: "The body took too long to arrive.",
    409: "The id was taken by something else.",
    413: "The body is too large.",
    414: "The address is too long.",
    415: "The body is not plain JSON.",
    421: "The Host header names nobody here.",
    422: "Something in the request is not what this route takes; `errors` says what.",
    429: "Too many writes; Retry-After says when to come back.",
    431: "The headers are too large.",
    500: "An error of ours; the log has it under the request's id.",
    503: "Not now; Retry-After says when to come back.",
}
_ALWAYS = (400, 414, 421, 431, 500, 503)
_WITH_BODY = (408, 413, 415, 422)
_KEYS: Mapping[str, dict[str, str]] = {
    "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "Bearer": {"type": "http", "scheme": "bearer"},
}


def openapi_of(app: FastAPI, routes: Iterable[APIRoute]) -> dict[str, Any]:
    """The document of the app with these routes."""
    made: dict[str, Any] = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        tags=[{"name": name, "description": text} for name, text in TAGS.items()],
    )
    schemas = made["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= {**problem.pop("$defs"), "Problem": problem}
    _fill_examples(schemas)
    made["components"]["securitySchemes"] = dict(_KEYS)
    made["components"]["responses"] = {
        f"Problem{code}": _problem(code, text) for code, text in _ERRORS.items()
    }
    for route in routes:
        if route.include_in_schema:
            for method in route.methods or ():
                _complete(made["paths"][route.path_format][method.lower()], route, schemas)
    return made


def _fill_examples(schemas: Mapping[str, Any]) -> None:
    """Put back what FastAPI leaves out of the examples of schemas: null."""
    for schema in schemas.values():
        for example in schema.get("examples", ()):
            if isinstance(example, dict):
                for field in schema.get("required", ()):
                    example.setdefault(field, None)


def _complete(operation: dict[str, Any], route: APIRoute, schemas: Mapping[str, Any]) -> None:
    asks = _dependencies(route.dependant)
    responses = operation["responses"]
    responses.pop("422", None)  # FastAPI's own, in another form
    for code in sorted(_codes(operation, route, asks)):
        responses[str(code)] = {"$ref": f"#/components/responses/Problem{code}"}
    for answer in responses.values():
        if "$ref" not in answer:
            answer.setdefault("headers", {})["X-Request-ID"] = {
                "description": "The request's id, the caller's own where it sent one.",
                "schema": {"type": "string"},
            }
            _exemplify(answer.get("content", {}), schemas)
    _exemplify(operation.get("requestBody", {}).get("content", {}), schemas)
    for parameter in operation.get("parameters", ()):
        if parameter["in"] != "header" and "example" not in parameter:
            _exemplify_parameter(parameter, schemas)
    needs: list[dict[str, list[str]]] = [{name: []} for name in _KEYS]
    operation["security"] = needs if "require_admin" in asks else [{}, *needs]


def _exemplify_parameter(parameter: dict[str, Any], schemas: Mapping[str, Any]) -> None:
    example = example_of(parameter["schema"], schemas, parameter["name"])
    if parameter["in"] == "path":  # an address is text
        example = str(EXAMPLES.get(parameter["name"], example))
    if example is not None:
        parameter["example"] = example


def _codes(operation: Mapping[str, Any], route: APIRoute, asks: set[str]) -> Iterable[int]:
    codes = {*_ALWAYS} if "health" in route.tags else {*_ALWAYS, 401, 403}
    if any("json" in kind for kind in _kinds(operation)):
        codes.add(406)
    if "requestBody" in operation or "POST" in (route.methods or ()):
        codes |= {*_WITH_BODY}
    if operation.get("parameters"):
        codes.add(422)
    if "{" in route.path or "require_admin" in asks:
        codes.add(404)
    if "limit_writes" in asks:
        codes |= {409, 429}
    return codes - {int(code) for code in operation["responses"] if code.isdigit()}


def _dependencies(dependant: Dependant) -> set[str]:
    found = {getattr(dependant.call, "__name__", "")}
    for each in dependant.dependencies:
        found |= _dependencies(each)
    return found


def _kinds(operation: Mapping[str, Any]) -> Iterable[str]:
    for answer in operation["responses"].values():
        yield from answer.get("content", {})


def _problem(code: int, text: str) -> dict[str, Any]:
    headers: dict[str, Any] = {"X-Request-ID": {"schema": {"type": "string"}}}
    if code in (429, 503):
        headers["Retry-After"] = {"required": True, "schema": {"type": "string"}}
    example = {
        "type": "about:blank",
        "title": "",
        "status": code,
        "detail": text,
        "instance": "/api/v1/recommendations",
        "request_id": EXAMPLES["request_id"],
    }
    example["title"] = text.partition(".")[0].partition(",")[0]
    schema = {"$ref": "#/components/schemas/Problem"}
    content = {PROBLEM: {"schema": schema, "example": example}}
    return {"description": text, "headers": headers, "content": content}


def _exemplify(content: Mapping[str, Any], schemas: Mapping[str, Any]) -> None:
    for kind, body in content.items():
        if "json" in kind and "example" not in body and "examples" not in body:
            body["example"] = example_of(body.get("schema", {}), schemas)
