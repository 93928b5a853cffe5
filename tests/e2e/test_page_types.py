"""The page's hand-written types name exactly the fields that the API's schema has."""

import re

import pytest
from tests.e2e.conftest import ROOT

from movie_mlops.api.main import create_app
from movie_mlops.settings import Settings

TYPES = (ROOT / "frontend" / "src" / "services" / "types.ts").read_text()
INTERFACES = {
    name: set(re.findall(r"^  (\w+)\??:", body, re.MULTILINE))
    for name, body in re.findall(
        r"export interface (\w+) \{\n(.*?)^\}", TYPES, re.DOTALL | re.MULTILINE
    )
}
SENT = {"InteractionIn"}  # the page sends only what it needs


def no_services() -> None:
    raise AssertionError


@pytest.fixture(scope="module")
def schemas() -> dict[str, dict[str, dict[str, object]]]:
    app = create_app(Settings(), no_services)  # type: ignore[arg-type]
    found: dict[str, dict[str, dict[str, object]]] = app.openapi()["components"]["schemas"]
    return found


def test_there_are_types() -> None:
    assert len(INTERFACES) > 8


@pytest.mark.parametrize("name", sorted(INTERFACES))
def test_fields(name: str, schemas: dict[str, dict[str, dict[str, object]]]) -> None:
    theirs = set(schemas[name]["properties"])
    if name in SENT:
        assert theirs >= INTERFACES[name]
    else:
        optional = {"errors"} if name == "Problem" else set()
        assert INTERFACES[name] == theirs - optional
