"""The ML Test Score's page names tests that exist, and its sums are right."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "ml-test-score.md").read_text()
PARTS = {
    heading: [float(row[1]) for row in re.findall(r"(?m)^\| (\d) \|[^|]+\| ([\d.]+) \|", text)]
    for heading, text in re.findall(r"(?ms)^## (.+?)\n(.+?)(?=^## |\Z)", PAGE)
}
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


def test_every_part_has_seven_tests_and_its_sum() -> None:
    assert len(PARTS) == 4
    for heading, points in PARTS.items():
        assert len(points) == 7, heading
        assert set(points) <= {0.0, 0.5, 1.0}
        assert float(heading.rpartition(": ")[2]) == sum(points), heading


def test_the_score_is_the_smallest_sum_and_at_least_five() -> None:
    told = re.search(r"(?m)^\*\*Score: ([\d.]+)\*\*$", PAGE)
    assert told is not None
    assert float(told[1]) == min(map(sum, PARTS.values())) >= 5


def test_a_full_point_names_what_earns_it() -> None:
    for line in re.findall(r"(?m)^\| \d \|[^|]+\| 1 \|.*$", PAGE):
        assert "`tests/" in line, line
    for script in re.findall(r"`(benchmarks/\w+\.py)`", PAGE):
        assert (ROOT / script).is_file(), script


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_the_test_exists(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
