"""Loose rows to checked rows: casts, reasons and duplicates, all as DuckDB SQL."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from movie_mlops.data.tables import BOOL, FLOAT, INT, TEXT, TEXTS, TIME, Column, Table
from movie_mlops.domain.errors import DataQualityError

if TYPE_CHECKING:
    import duckdb

MAX_QUARANTINED_SHARE = 0.2
"""More bad rows than this and the file as a whole is refused."""

DUPLICATE = "duplicate key"
CHECKED = "checked_rows"
"""Temporary table of `check`: the contract's columns and _position, _reason, _row."""

ORIGINAL_ROW = "_row"
"""A staged column of this name is the row's JSON as it was first seen (replayed rows)."""

_SQL_TYPES = {TEXT: "VARCHAR", INT: "BIGINT", FLOAT: "DOUBLE", BOOL: "BOOLEAN",
              TEXTS: "VARCHAR[]", TIME: "TIMESTAMPTZ"}  # fmt: skip
_TYPE_WORDS = {TEXT: "text", INT: "a 64-bit whole number", FLOAT: "a number",
               BOOL: "true or false", TEXTS: "a list of texts", TIME: "a time"}  # fmt: skip
_BLANKS = "' ' || chr(9) || chr(10) || chr(13) || chr(65279)"  # the last one is the BOM


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """What became of the rows of one table; `quarantined` counts rows by reason."""

    table: str
    rows_in: int
    rows_out: int
    quarantined: Mapping[str, int] = field(default_factory=dict)

    @property
    def quarantined_rows(self) -> int:
        """Rows with any reason."""
        return sum(self.quarantined.values())

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON-ready object."""
        return {
            "table": self.table,
            "rows_in": self.rows_in,
            "rows_out": self.rows_out,
            "quarantined": dict(self.quarantined),
        }


def check(connection: "duckdb.DuckDBPyConnection", table: Table, relation: str) -> ValidationReport:
    """Cast and judge every row of `relation` into the temporary table `checked_rows`.

    One pass over the source. Text loses blanks, CR and BOM at its ends and is NULL when nothing
    remains; numbers as times are seconds since 1970; a missing optional column is NULL, a missing
    list is empty.

    Raises:
        DataQualityError: a required column is missing.
        duckdb.Error: the source cannot be read.
    """
    described = connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()  # noqa: S608
    staged = {str(name).lower(): str(kind) for name, kind, *_ in described}
    missing = [
        column.name
        for column in table.columns
        if column.required and column.dtype != TEXTS and column.name not in staged
    ]
    if missing:
        message = (
            f"table {table.name}: the source lacks the column(s) {', '.join(missing)}; "
            f"it has {', '.join(staged)}. The last good data stays in place"
        )
        raise DataQualityError(message, ValidationReport(table.name, 0, 0))
    connection.execute(_check_sql(table, relation, staged))
    _mark_duplicates(connection, table)
    counts: list[tuple[str | None, int]] = connection.execute(
        f"SELECT _reason, count(*) FROM {CHECKED} GROUP BY 1 ORDER BY 2 DESC, 1"  # noqa: S608
    ).fetchall()
    good = sum(count for reason, count in counts if reason is None)
    bad = {reason: count for reason, count in counts if reason is not None}
    return ValidationReport(table.name, good + sum(bad.values()), good, bad)


def require_quality(report: ValidationReport, max_share: float = MAX_QUARANTINED_SHARE) -> None:
    """Refuse a table that is empty or has too large a share of bad rows.

    Raises:
        DataQualityError: with the report; the caller leaves the last good data in place.
    """
    reasons = ", ".join(f"{reason} ({count})" for reason, count in report.quarantined.items())
    if not report.rows_out:
        message = f"table {report.table}: no good row in {report.rows_in}. {reasons}".rstrip()
    elif report.quarantined_rows > max_share * report.rows_in:
        message = (
            f"table {report.table}: {report.quarantined_rows} of {report.rows_in} rows are bad, "
            f"more than {max_share:.0%}: {reasons}"
        )
    else:
        return
    raise DataQualityError(f"{message}. The last good data stays in place", report)


def columns_sql(table: Table) -> str:
    """The contract's column names, quoted, in order."""
    return ", ".join(f'"{column.name}"' for column in table.columns)


def from_json_sql(table: Table, document: str) -> str:
    """Select-list that reads the loose columns back from a quarantined row's JSON."""
    parts = []
    for column in table.columns:
        found = f"json_extract({document}, '$.\"{column.name}\"')"
        if column.dtype == TEXTS:
            found = f"TRY(from_json({found}, '[\"VARCHAR\"]'))"
        else:
            found = f"json_extract_string({document}, '$.\"{column.name}\"')"
        parts.append(f'{found} AS "{column.name}"')
    return ", ".join(parts)


def _check_sql(table: Table, relation: str, staged: Mapping[str, str]) -> str:
    casts: list[str] = []
    misfits: list[str] = []  # what is wrong with one value is told before how values disagree
    predicates: list[str] = []
    for column in table.columns:
        name, kind = f'"{column.name}"', _SQL_TYPES[column.dtype]
        if column.name not in staged:
            nothing = "[]" if column.dtype == TEXTS else "NULL"
            casts.append(f"{nothing}::{kind} AS {name}")
            continue
        source = f"src.{name}"
        casts.append(f"{_cast(column, source, staged[column.name])} AS {name}")
        misfits += _misfits(column, staged[column.name])
        if column.predicate is not None:
            predicates.append(_predicate(column))
    document = _document(staged, "_source")
    if ORIGINAL_ROW in staged:
        document = f"coalesce(_source.{ORIGINAL_ROW}, {document})"
    return f"""
        CREATE OR REPLACE TEMP TABLE {CHECKED} AS
        WITH cast_rows AS (
            SELECT row_number() OVER () AS _position, {", ".join(casts)}, src AS _source
            FROM {relation} AS src
        ), judged AS (SELECT *, CASE {" ".join(misfits + predicates)} END AS _reason FROM cast_rows)
        SELECT _position, {columns_sql(table)}, _reason,
            CASE WHEN _reason IS NOT NULL THEN {document} END AS _row
        FROM judged"""  # noqa: S608 - names come from the contract, never from a user


def _cast(column: Column, source: str, staged: str) -> str:
    text = f"nullif(trim({source}, {_BLANKS}), '')" if staged == "VARCHAR" else source
    if column.dtype == TIME:
        if staged.startswith(("TIMESTAMP", "DATE")):
            return f"{source}::TIMESTAMPTZ"
        seconds = f"TRY(to_timestamp(TRY_CAST({text} AS DOUBLE)))"
        return (
            f"coalesce(TRY_CAST({text} AS TIMESTAMPTZ), {seconds})" if text != source else seconds
        )
    if column.dtype == INT and not staged.endswith("INT") and staged != "INTEGER":
        # DuckDB would round 3.7 to 4: an id or a year is a whole number or nothing
        number = f"TRY_CAST({text} AS DOUBLE)"
        return f"CASE WHEN {number} = trunc({number}) THEN TRY_CAST({text} AS BIGINT) END"
    cast = f"TRY_CAST({text} AS {_SQL_TYPES[column.dtype]})"
    return f"CASE WHEN {text} IS NULL THEN [] ELSE {cast} END" if column.dtype == TEXTS else cast


def _misfits(column: Column, staged: str) -> list[str]:
    name, source = f'"{column.name}"', f'_source."{column.name}"'
    given = f"trim({source}, {_BLANKS}) <> ''" if staged == "VARCHAR" else f"{source} IS NOT NULL"
    word = _TYPE_WORDS[column.dtype]
    rules = [f"WHEN {name} IS NULL AND {given} THEN '{column.name} is not {word}'"]
    if column.required:
        rules.append(f"WHEN {name} IS NULL THEN '{column.name} is missing'")
    return rules


def _predicate(column: Column) -> str:
    reason = (column.reason or f"{column.name} is out of range").replace("'", "''")
    return f"WHEN \"{column.name}\" IS NOT NULL AND NOT ({column.predicate}) THEN '{reason}'"


def _document(columns: Mapping[str, str], owner: str) -> str:
    pairs = []
    for name, kind in columns.items():
        if name == ORIGINAL_ROW:
            continue
        quoted, key = '"' + name.replace('"', '""') + '"', name.replace("'", "''")
        # scalars as text: JSON has no NaN, and a number of 30 digits shall stay as it came
        nested = kind.endswith("]") or kind.startswith(("STRUCT", "MAP"))
        value = f"{owner}.{quoted}"
        pairs.append(f"'{key}', {value if nested else f'CAST({value} AS VARCHAR)'}")
    return f"CAST(json_object({', '.join(pairs)}) AS VARCHAR)"


def _mark_duplicates(connection: "duckdb.DuckDBPyConnection", table: Table) -> None:
    key = ", ".join(f'"{name}"' for name in table.key)
    kinds = {column.name: _SQL_TYPES[column.dtype] for column in table.columns}
    connection.execute(
        f"""UPDATE {CHECKED} SET _reason = '{DUPLICATE}', _row = {_document(kinds, CHECKED)}
        WHERE _position IN (
            SELECT _position FROM (
                SELECT _position, row_number() OVER (PARTITION BY {key} ORDER BY _position) AS n
                FROM {CHECKED} WHERE _reason IS NULL
            ) WHERE n > 1
        )"""  # noqa: S608 - names come from the contract, never from a user
    )
