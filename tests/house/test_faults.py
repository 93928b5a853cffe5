"""Every fault of events, models, serving and loop that the house survives is named by a test."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
PROMISED = (*range(14, 78), 80)
_NAMED = re.compile(r"[Ff]aults? ((?:\d+(?:-\d+)?(?:, | and )?)+)")
_IN_NAME = re.compile(r"^test_(?:fault_)?((?:\d\d_)+)")


def numbers(text: str) -> Iterator[int]:
    """`14-18, 48 and 55` as numbers."""
    for first, last in re.findall(r"(\d+)(?:-(\d+))?", text):
        yield from range(int(first), int(last or first) + 1)


def named() -> set[int]:
    """The faults that docstrings and names of tests name."""
    found: set[int] = set()
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
                for listed in _NAMED.findall(ast.get_docstring(node) or ""):
                    found.update(numbers(listed))
                if match := _IN_NAME.match(node.name):
                    found.update(numbers(match[1]))
    return found


def test_each_fault_of_events_features_models_serving_and_loop_has_its_test() -> None:
    found = named()
    missing = sorted(set(PROMISED) - found)
    assert not missing, f"no test names these faults: {missing}"
