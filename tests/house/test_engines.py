"""The engines' document names every engine that the stack starts, as it starts it."""

from pathlib import Path

from movie_mlops.stack import Stack

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "engines" / "stack.md"


def test_every_engine_stands_in_the_document_with_its_port(tmp_path: Path) -> None:
    text = DOCUMENT.read_text()
    rows = [
        f"| {'Apache Kafka' if engine.name == 'kafka' else engine.title} | `{engine.name}` | "
        f"{engine.port} "
        for engine in Stack(tmp_path).engines
    ]
    assert len(rows) == 11
    assert [row for row in rows if row not in text] == []
