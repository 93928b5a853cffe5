"""Histories from the interactions table, and the NCF paper's files."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from movie_mlops.data.tables import INTERACTIONS
from movie_mlops.domain.errors import SourceFormatError
from movie_mlops.domain.interactions import InteractionType, is_positive
from movie_mlops.models.training.histories import build_histories, is_ncf_split, read_ncf_split

START = datetime(2024, 5, 1, tzinfo=UTC)
MOVIES = np.array([30, 10, 20, 40])


def table(*rows: tuple[str, int, str, float | None, int, int]) -> pl.DataFrame:
    """Rows of user, film, type, rating, seconds, line."""
    filled = [
        (user, film, kind, rating, START + timedelta(seconds=seconds), line)
        for user, film, kind, rating, seconds, line in rows
    ]
    return pl.DataFrame(filled, schema=INTERACTIONS.schema, orient="row")


def test_rows_are_sorted_by_time_then_line_and_kept_once() -> None:
    found = build_histories(
        table(
            ("b", 40, "watch", None, 5, 9),
            ("a", 30, "watch", None, 7, 2),
            ("a", 10, "watch", None, 7, 1),
            ("a", 20, "like", None, 1, 3),
            ("a", 30, "like", None, 2, 0),  # the first positive of film 30
            ("a", 99, "watch", None, 3, 4),  # no such film
        ),
        MOVIES,
    )
    assert found.user_ids == ("a", "b")
    assert found.movie_ids.tolist() == [10, 20, 30, 40]
    assert found.movie_ids[found.of(0)].tolist() == [20, 30, 10]
    assert found.movie_ids[found.of(1)].tolist() == [40]
    assert found.times is not None
    assert np.diff(found.times[:3]).tolist() == [1_000_000, 5_000_000]


@pytest.mark.parametrize("rating", [None, 0.5, 2.5, 3.0, 5.0])
@pytest.mark.parametrize("kind", [kind for kind in InteractionType if kind != "undo"])
def test_the_positive_rule_is_the_domains(kind: InteractionType, rating: float | None) -> None:
    found = build_histories(table(("a", 10, kind.value, rating, 0, 0)), MOVIES)
    assert len(found.items) == int(is_positive(kind, rating))


def test_every_rating_counts_when_data_sets_are_evaluated() -> None:
    rows = table(("a", 10, "rating", 0.5, 0, 0), ("a", 20, "view", None, 0, 1))
    assert build_histories(rows, MOVIES, every_rating=True).items.tolist() == [0]


def test_an_empty_table_gives_no_history() -> None:
    found = build_histories(table(), MOVIES)
    assert (found.user_count, found.item_count, len(found.items)) == (0, 4, 0)


def write_ncf(folder: Path, name: str = "tiny") -> Path:
    prefix = folder / name
    Path(f"{prefix}.train.rating").write_text(
        "0\t7\t4\t300\n0\t5\t3\t100\n0\t9\t3\t100\n2\t5\t1\t50\n2\t5\t1\t60\n"
    )
    Path(f"{prefix}.test.rating").write_text("0\t3\t5\t400\n2\t11\t5\t70\n")
    Path(f"{prefix}.test.negative").write_text("(0,3)\t5\t12\t3\n(2,11)\t7\t9\n")
    return prefix


@pytest.mark.parametrize("as_folder", [True, False])
def test_ncf_files_are_read_in_order_of_time_then_line(tmp_path: Path, as_folder: bool) -> None:
    prefix = write_ncf(tmp_path)
    where = tmp_path if as_folder else prefix
    assert is_ncf_split(where)
    split = read_ncf_split(where)
    films = split.train.movie_ids
    assert films.tolist() == [3, 5, 7, 9, 11, 12]
    assert split.train.user_ids == ("0", "2")
    assert films[split.train.of(0)].tolist() == [5, 9, 7]
    assert films[split.train.of(1)].tolist() == [5]
    assert split.users.tolist() == [0, 1]
    assert films[split.held_out].tolist() == [3, 11]
    assert films[split.negatives[0]].tolist() == [5, 12, 3]
    assert films[split.negatives[1][:2]].tolist() == [7, 9]
    assert split.negatives[1][2] == -1


def test_ncf_folders_must_name_one_split(tmp_path: Path) -> None:
    assert not is_ncf_split(tmp_path)
    with pytest.raises(SourceFormatError, match="none"):
        read_ncf_split(tmp_path)
    write_ncf(tmp_path, "one")
    write_ncf(tmp_path, "two")
    with pytest.raises(SourceFormatError, match="two"):
        read_ncf_split(tmp_path)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("train.rating", "0\tseven\t4\t1\n"),
        ("train.rating", ""),
        ("test.negative", "(x,3)\t1\n"),
        ("test.rating", None),
    ],
)
def test_broken_ncf_files_are_named(tmp_path: Path, file: str, text: str | None) -> None:
    prefix = write_ncf(tmp_path)
    path = Path(f"{prefix}.{file}")
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    with pytest.raises(SourceFormatError, match="tiny"):
        read_ncf_split(prefix)
