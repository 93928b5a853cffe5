"""Examples in the OpenAPI document, made from the schemas and the names of their fields."""

from collections.abc import Mapping
from typing import Any

EXAMPLES: Mapping[str, Any] = {
    "user_id": "user_3", "movie_id": 42, "title": "The Long Way Home", "title_en": "The Long Way "
    "Home", "title_ko": "먼 길", "k": 10, "limit": 20, "q": "home", "score": 0.73, "text":
    "Because you watched The Quiet Sea", "because": [7], "path": "personal", "model_version": "3",
    "model_name": "movie_recommender", "version": "3", "snapshot": "v20260101-120000",
    "request_id": "0d4c1b6f2a8e4d7c9b3a5e6f7a8b9c0d", "recommended_content_id": [42, 7, 19],
    "year": 1999, "genres": ["Drama"], "runtime": 118, "overview": "Two brothers walk home.",
    "directors": ["Jane Doe"], "cast": ["John Roe"], "vote_average": 7.4, "vote_count": 1200,
    "popularity": 31.5, "poster_url": "/posters/42.svg?lang=en&v=1a2b3c4d5e6f", "similarity": 0.61,
    "startYear": 1999, "runtimeMinutes": 118, "numVotes": 5000, "rating": 4.5, "low": 5.9,
    "high": 8.6, "level": 0.9, "in_range": True, "interaction_type": "like", "event_id":
    "5f0c3a", "target_event_id": "5f0c39", "session_id": "session-1", "timestamp":
    "2026-01-01T12:00:00Z", "position": "user-events:0:17", "status": 404, "detail":
    "the catalogue has no film 999; /api/v1/movies lists them all", "instance":
    "/api/v1/movies/999", "name": "movie_recommender", "algorithm": "blend", "run_id": "run-1",
    "pipeline": "training", "state": "running", "next_cursor": None, "entity_id": 42,
    "entity_type": "movie", "description": "longer histories", "datatype": "FP64", "shape": [1],
    "data": [1999], "error": "Model with name nobody does not exist", "originalTitle": "먼 길",
    "cursor": None, "stage": "Production", "aliases": ["champion"], "outputs": None, "without": [],
    "lang": "en",
}  # fmt: skip
"""By the name of a field: what stands for it where the field has no example of its own."""


def example_of(schema: Mapping[str, Any], schemas: Mapping[str, Any], name: str = "") -> Any:
    """A value that the schema takes; `name` is the field's, for one that makes sense."""
    if "$ref" in schema:
        return example_of(schemas[schema["$ref"].rpartition("/")[2]], schemas, name)
    given = [schema[key][0] for key in ("examples", "enum") if schema.get(key)]
    given += [schema[key] for key in ("example", "const", "default") if key in schema]
    if name in EXAMPLES and _fits(EXAMPLES[name], schema):
        given.append(EXAMPLES[name])
    if given:
        return given[0]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return example_of(schema[key][0], schemas, name)
    return _of_kind(schema, schemas, name)


def _of_kind(schema: Mapping[str, Any], schemas: Mapping[str, Any], name: str) -> Any:
    if "properties" in schema:
        fields = schema["properties"].items()
        return {field: example_of(inner, schemas, field) for field, inner in fields}
    if schema.get("type") == "array":
        return [example_of(schema.get("items", {}), schemas, name)]
    plain = {
        "string": "text", "integer": schema.get("minimum", 1), "number": 1.0, "boolean": True,
        "object": {},
    }  # fmt: skip
    return plain.get(str(schema.get("type")))


def _fits(value: Any, schema: Mapping[str, Any]) -> bool:
    kinds = {schema.get("type")} | {each.get("type") for each in schema.get("anyOf", ())}
    if None in kinds and ("$ref" in str(schema) or not kinds - {None}):
        return "$ref" not in str(schema)
    types: dict[str, Any] = {
        "string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list,
        "null": type(None), "object": dict,
    }  # fmt: skip
    return any(kind in types and isinstance(value, types[kind]) for kind in kinds)
