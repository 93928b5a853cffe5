"""Loose rows to checked rows: casts, reasons and duplicates, as SQL for every table engine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from movie_mlops.data.engine import POSITION, Tables
from movie_mlops.data.tables import BOOL, FLOAT, INT, TEXT, TEXTS, TIME, Column, Table
from movie_mlops.domain.errors import DataQualityError

MAX_QUARANTINED_SHARE = 0.2
"""More bad rows than this and the file as a whole is refused."""

DUPLICATE = "duplicate key"
CHECKED = "checked_rows"
"""Relation of `check`: the contract's columns and _position, _reason, _row."""
_JUDGED, _REPEATED = "judged_rows", "repeated_rows"

ORIGINAL_ROW = "_row"
"""A staged column of this name is the row's JSON as it was first seen (replayed rows)."""

_SQL_TYPES = {TEXT: "VARCHAR", INT: "BIGINT", FLOAT: "DOUBLE", BOOL: "BOOLEAN",
              TEXTS: "VARCHAR[]", TIME: "TIMESTAMPTZ"}  # fmt: skip
_TYPE_WORDS = {TEXT: "text", INT: "a 64-bit whole number", FLOAT: "a number",
               BOOL: "true or false", TEXTS: "a list of texts", TIME: "a time"}  # fmt: skip
_BLANKS = "' \t\n\r\ufeff'"  # the last one is the BOM


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


def check(tables: Tables, table: Table, relation: str) -> ValidationReport:
    """Cast and judge every row of `relation`; afterwards there is the relation `checked_rows`.

    One pass over the source. Text loses blanks, CR and BOM at its ends and is NULL when nothing
    remains; numbers as times are seconds since 1970; a missing optional column is NULL, a missing
    list is empty. Of rows with one key the first stays: by the source's `_position` if it has one.

    Raises:
        DataQualityError: a required column is missing.
        duckdb.Error: the source cannot be read.
        EngineUnavailableError: a distributed engine fails.
    """
    staged = tables.columns(relation)
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
    tables.keep(_JUDGED, _check_sql(table, relation, staged))
    tables.keep(_REPEATED, _repeated_sql(table))
    tables.define(CHECKED, _checked_sql(table))
    counts: list[tuple[str | None, int]] = tables.frame(
        f"SELECT _reason, count(*) AS n FROM {CHECKED} GROUP BY 1 ORDER BY 2 DESC, 1"  # noqa: S608
    ).rows()
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
    given = {name: kind for name, kind in staged.items() if name not in (ORIGINAL_ROW, POSITION)}
    document = _document({name: (_source(name), kind) for name, kind in given.items()})
    if ORIGINAL_ROW in staged:
        document = f"coalesce({_source(ORIGINAL_ROW)}, {document})"
        given[ORIGINAL_ROW] = "VARCHAR"
    sources = [f"src.{_quoted(name)} AS {_source(name)}" for name in given]
    position = f"src.{POSITION}" if POSITION in staged else "row_number() OVER ()"
    return f"""
        WITH cast_rows AS (
            SELECT {position} AS _position, {", ".join(casts + sources)} FROM {relation} AS src
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
        return f"CASE WHEN {number} = floor({number}) THEN TRY_CAST({text} AS BIGINT) END"
    cast = f"TRY_CAST({text} AS {_SQL_TYPES[column.dtype]})"
    return f"CASE WHEN {text} IS NULL THEN [] ELSE {cast} END" if column.dtype == TEXTS else cast


def _misfits(column: Column, staged: str) -> list[str]:
    name, source = f'"{column.name}"', _source(column.name)
    given = f"trim({source}, {_BLANKS}) <> ''" if staged == "VARCHAR" else f"{source} IS NOT NULL"
    word = _TYPE_WORDS[column.dtype]
    rules = [f"WHEN {name} IS NULL AND {given} THEN '{column.name} is not {word}'"]
    if column.required:
        rules.append(f"WHEN {name} IS NULL THEN '{column.name} is missing'")
    return rules


def _predicate(column: Column) -> str:
    reason = (column.reason or f"{column.name} is out of range").replace("'", "''")
    return f"WHEN \"{column.name}\" IS NOT NULL AND NOT ({column.predicate}) THEN '{reason}'"


def _document(values: Mapping[str, tuple[str, str]]) -> str:
    """The JSON of a row as text, of key to value and its type."""
    pairs = []
    for name, (value, kind) in values.items():
        key = name.replace("'", "''")
        # scalars as text: JSON has no NaN, and a number of 30 digits shall stay as it came
        nested = kind.endswith("]") or kind.startswith(("STRUCT", "MAP"))
        pairs.append(f"'{key}', {value if nested else _as_text(value, kind)}")
    return f"CAST(json_object({', '.join(pairs)}) AS VARCHAR)"


def _as_text(value: str, kind: str) -> str:
    if kind in ("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE"):  # the engines would write it each so
        return f"strftime({value}, '%Y-%m-%d %H:%M:%S.%f+00')"
    return f"CAST({value} AS VARCHAR)"


def _repeated_sql(table: Table) -> str:
    key = ", ".join(f'"{name}"' for name in table.key)
    return f"""
        SELECT _position FROM (
            SELECT _position, row_number() OVER (PARTITION BY {key} ORDER BY _position) AS n
            FROM {_JUDGED} WHERE _reason IS NULL
        ) AS numbered WHERE n > 1"""  # noqa: S608 - names come from the contract, never from a user


def _checked_sql(table: Table) -> str:
    columns = ", ".join(f'j."{column.name}"' for column in table.columns)
    document = _document(
        {column.name: (f'j."{column.name}"', _SQL_TYPES[column.dtype]) for column in table.columns}
    )
    return f"""
        SELECT j._position, {columns},
            CASE WHEN r._position IS NULL THEN j._reason ELSE '{DUPLICATE}' END AS _reason,
            CASE WHEN r._position IS NULL THEN j._row ELSE {document} END AS _row
        FROM {_JUDGED} AS j LEFT JOIN {_REPEATED} AS r ON j._position = r._position"""  # noqa: S608


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _source(name: str) -> str:
    """The column that carries a value as it came."""
    return _quoted(f"_source_{name}")
