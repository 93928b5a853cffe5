"""The AsyncAPI document of the events, and what would break those who read or write them."""

from typing import Any

from movie_mlops.events.schemas import EVENT_TYPES, TOPICS, schema_of

VERSION = "3.0.0"
_SCHEMAS = "#/components/schemas/"
_MAY_GROW = ("maxLength", "maximum", "exclusiveMaximum")
_MAY_FALL = ("minLength", "minimum", "exclusiveMinimum")
_FREE = ("title", "description", "default", "examples")


def asyncapi(version: str) -> dict[str, Any]:
    """Topics, types and schemas as AsyncAPI 3; over Kafka each is a structured CloudEvent.

    Source: https://www.asyncapi.com/docs/reference/specification/v3.0.0,
    CloudEvents 1.0 (https://github.com/cloudevents/spec).
    """
    names = {topic: [kind.name for kind in EVENT_TYPES if kind.topic == topic] for topic in TOPICS}
    return {
        "asyncapi": VERSION,
        "info": {
            "title": "movie-mlops events",
            "version": version,
            "description": "At least once; one event counts once by its id; order within a key.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/cloudevents+json",
        "channels": {topic: _channel(topic, names[topic]) for topic in TOPICS},
        "operations": {
            f"{action} {topic}": {
                "action": action,
                "channel": {"$ref": f"#/channels/{topic}"},
                "messages": [
                    {"$ref": f"#/channels/{topic}/messages/{name}"} for name in names[topic]
                ],
            }
            for topic in TOPICS
            for action in ("send", "receive")
        },
        "components": {
            "messages": {kind.name: _message(kind.name, kind.struct) for kind in EVENT_TYPES},
            "schemas": {kind.name: schema_of(kind) for kind in EVENT_TYPES},
        },
    }


def breaking_changes(released: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What a reader or writer of the released document would stumble over; empty: compatible.

    While replicas are changed one by one, both versions read and write. So a type may get optional
    fields, wider bounds and more enumerated values; anything else needs a new type (`….v2`).
    """
    before, after = released["components"]["schemas"], now["components"]["schemas"]
    found = [f"{name}: the type is gone" for name in before if name not in after]
    for name in before.keys() & after.keys():
        found += [f"{name}{text}" for text in _object_changes(before[name], after[name])]
    channels = now["channels"]
    for topic, channel in released["channels"].items():
        if channels.get(topic, {}).get("bindings") != channel["bindings"]:
            found.append(f"{topic}: the topic or its number of partitions changed")
    return sorted(found)


def _channel(topic: str, names: list[str]) -> dict[str, Any]:
    return {
        "address": topic,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": {"kafka": {"topic": topic, "partitions": TOPICS[topic]}},
    }


def _message(name: str, struct: type[Any]) -> dict[str, Any]:
    """The CloudEvent around a body."""
    text = {"type": "string"}
    attributes = {
        "specversion": {"const": "1.0"},
        "id": {**text, "minLength": 1},
        "source": {**text, "format": "uri-reference"},
        "type": {"const": name},
        "subject": {**text, "description": "The key: events of one key keep their order."},
        "time": {**text, "format": "date-time"},
        "datacontenttype": {"const": "application/json"},
        "data": {"$ref": _SCHEMAS + name},
    }
    required = ["specversion", "id", "source", "type", "data"]
    return {
        "name": name,
        "summary": " ".join((struct.__doc__ or "").split()),
        "payload": {"type": "object", "properties": attributes, "required": required},
    }


def _object_changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    found: list[str] = []
    was, became = set(before.get("required", ())), set(after.get("required", ()))
    found += [f".{name}: required now" for name in became - was]
    found += [f".{name}: required no longer, but readers count on it" for name in was - became]
    old, new = _properties(before), _properties(after)
    for name, schema in old.items():
        if name not in new:
            found.append(f".{name}: the field is gone")
        else:
            found += [f".{name}{text}" for text in _value_changes(schema, new[name])]
    return found


def _properties(schema: dict[str, Any]) -> dict[str, Any]:
    """The properties with their references put in."""
    defined = schema.get("$defs", {})
    return {
        name: defined[each["$ref"].rpartition("/")[2]] if "$ref" in each else each
        for name, each in schema.get("properties", {}).items()
    }


def _value_changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    found: list[str] = []
    for key in sorted((before.keys() | after.keys()) - set(_FREE)):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        wider = (
            (key == "enum" and old is not None and new is not None and set(old) <= set(new))
            or (key in _MAY_GROW and (new is None or (old is not None and new >= old)))
            or (key in _MAY_FALL and (new is None or (old is not None and new <= old)))
        )
        if not wider:
            found.append(f": {key} was {old!r}, is {new!r}")
    return found
