"""House rules that no linter checks: first lines, length, printing, what an import loads."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"
MODULES = sorted(SOURCE.rglob("*.py"))
ENGINES = {
    "alembic", "dvc", "evidently", "feast", "joblib", "lightgbm", "matplotlib", "mlflow", "pandas",
    "psycopg2",
    "scipy", "sklearn", "sqlalchemy", "torch", "xgboost",
}  # fmt: skip
"""What belongs to worker and pipelines: seconds to import and hundreds of megabytes."""


def name_of(path: Path) -> str:
    return str(path.relative_to(SOURCE))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_opens_with_one_line_and_is_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    docstring = ast.get_docstring(ast.parse(text), clean=False)
    assert docstring, "a module says in its first line what it is"
    opening = docstring.partition("\n\n")[0]
    assert "\n" not in opening.strip(), "the opening is one line"
    assert opening.strip().endswith((".", ":"))
    assert text.startswith(('"""', 'r"""')), "nothing stands before the docstring"


@pytest.mark.parametrize("path", [path for path in MODULES if "cli" not in path.parts], ids=name_of)
def test_only_the_command_line_prints(path: Path) -> None:
    calls = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("print", "pprint", "input", "breakpoint")
    ]
    assert not calls


def loaded_by(statement: str) -> set[str]:
    """Top-level packages that are neither Python's own nor ours."""
    code = (
        f"import sys; before = set(sys.modules)\n{statement}\n"
        "found = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*found - set(sys.stdlib_module_names))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    private = {name for name in ran.stdout.split() if name.startswith("_")}
    return set(ran.stdout.split()) - private - {"movie_mlops"}


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("import movie_mlops", set()),
        ("import movie_mlops.domain.errors", set()),
        ("import movie_mlops.orchestration.shapes", set()),
        ("import movie_mlops.cli.main", {"click"}),
        (
            "import click; from movie_mlops.cli.main import cli\n"
            "for name in cli.list_commands(None): cli.get_command(None, name)",
            {"click"},
        ),
    ],
)
def test_light_doors_stay_light(statement: str, allowed: set[str]) -> None:
    assert loaded_by(statement) <= allowed


@pytest.mark.parametrize("door", ["api.main", "api.control", "bootstrap"])
def test_serving_loads_no_engine_before_it_is_asked(door: str) -> None:
    assert loaded_by(f"import movie_mlops.{door}").isdisjoint(ENGINES)
