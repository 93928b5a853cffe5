"""DuckDB's SQL as Spark's: what sqlglot translates, and what the two mean differently."""

from collections.abc import Callable
from functools import lru_cache

import sqlglot
from sqlglot import exp

_DIGITS = "[0-9]+(_[0-9]+)*"
_NUMBER = f"^[+-]?({_DIGITS}[.]?({_DIGITS})?|[.]{_DIGITS})([eE][+-]?[0-9]+)?$"
_DOUBLE = _NUMBER + "|^[+-]?([iI][nN][fF]([iI][nN][iI][tT][yY])?|[nN][aA][nN])$"
_TIME = "^[0-9]{4,6}[-/][0-9]{1,2}[-/][0-9]{1,2}([ T][0-9]{1,2}:.+)?$"
_BOOLEAN = "^([tT]([rR][uU][eE])?|[fF]([aA][lL][sS][eE])?|[yY]([eE][sS])?|[nN][oO]?|[01])$"
_LATEST = "9.2e12"  # seconds since 1970


@lru_cache(maxsize=256)
def to_spark(query: str) -> str:
    """The same query for Spark.

    What reads text is held to the forms that DuckDB reads: Spark would take `2023` as a time,
    `1.0d` as a number, and so on.
    """
    tree = sqlglot.parse_one(query, dialect="duckdb")
    for node in list(tree.dfs())[::-1]:  # children first
        made = _rewritten(node)
        if made is not None:
            node.replace(made)
    return tree.sql("spark", identify=True)


def duckdb_type(spark: str) -> str:
    """Spark's name of a type as DuckDB's."""
    if spark == "timestamp":
        return "TIMESTAMP WITH TIME ZONE"
    return exp.DataType.build(spark, dialect="spark").sql("duckdb").replace("TEXT", "VARCHAR")


def _rewritten(node: exp.Expr) -> exp.Expr | None:
    """What stands in a node's place; None: sqlglot's own translation is right."""
    kind = node.name.lower() if isinstance(node, exp.Anonymous) else type(node)
    rule = _RULES.get(kind)
    return rule(node) if rule is not None else None


def _tried(node: exp.Expr) -> exp.Expr:
    tried: exp.Expr = node.this
    return tried.copy()  # what is tried here gives NULL by itself


def _time_of_seconds(node: exp.Expr) -> exp.Expr:
    return _spark(
        f"CASE WHEN abs(?) < {_LATEST} THEN timestamp_micros(CAST(round(? * 1e6) AS BIGINT)) END",
        node.this,
    )


def _full_match(node: exp.Expr) -> exp.Expr:
    pattern = exp.Literal.string(f"^(?:{node.expression.this})$")
    return exp.RegexpLike(this=node.this.copy(), expression=pattern)


def _java_classes(node: exp.Expr) -> exp.Expr | None:
    if "[[:cntrl:]]" not in str(node.this):
        return None
    return exp.Literal.string(node.this.replace("[[:cntrl:]]", "\\p{Cntrl}"))


def _is_finite(node: exp.Expr) -> exp.Expr:
    return _spark("NOT isnan(?) AND abs(?) < CAST('Infinity' AS DOUBLE)", node.expressions[0])


def _hash(node: exp.Expr) -> exp.Expr:
    return exp.func("xxhash64", *(each.copy() for each in node.expressions))  # of 64 bits too


def _from_text(node: exp.Expr) -> exp.Expr | None:
    if not isinstance(node.this, exp.Nullif):
        return None  # no text: only trimmed text is cast so
    kind = node.args["to"].this
    if kind == exp.DataType.Type.DOUBLE:
        return _spark(
            f"CASE WHEN ? RLIKE '{_DOUBLE}' THEN TRY_CAST(replace(?, '_', '') AS DOUBLE) END",
            node.this,
        )
    if kind == exp.DataType.Type.BIGINT:  # 3.0 and 1e3 are whole numbers too
        return _spark(
            f"CASE WHEN ? RLIKE '{_NUMBER}' THEN "
            "TRY_CAST(TRY_CAST(replace(?, '_', '') AS DECIMAL(38, 6)) AS BIGINT) END",
            node.this,
        )
    if kind == exp.DataType.Type.TIMESTAMPTZ:
        return _spark(
            f"CASE WHEN ? RLIKE '{_TIME}' THEN TRY_CAST("
            "regexp_replace(?, '^([0-9]+)/([0-9]+)/', '$1-$2-') AS TIMESTAMP) END",
            node.this,
        )
    if kind == exp.DataType.Type.BOOLEAN:
        return _spark(f"CASE WHEN ? RLIKE '{_BOOLEAN}' THEN TRY_CAST(? AS BOOLEAN) END", node.this)
    return None


def _json(node: exp.Expr) -> exp.Expr:
    pairs = []
    for pair in node.expressions:
        pairs += [pair.this.copy(), pair.expression.copy()]
    keeping_nulls = sqlglot.parse_one("map('ignoreNullFields', 'false')", dialect="spark")
    return exp.func("to_json", exp.func("named_struct", *pairs), keeping_nulls)


def _spark(template: str, value: exp.Expr) -> exp.Expr:
    """Spark's SQL with the value at each mark, in brackets."""
    tree = exp.paren(sqlglot.parse_one(template, dialect="spark"), copy=False)
    for mark in list(tree.find_all(exp.Placeholder)):
        mark.replace(exp.paren(value))
    return tree


_RULES: dict[object, Callable[[exp.Expr], exp.Expr | None]] = {
    exp.JSONObject: _json,
    exp.Literal: _java_classes,
    exp.RegexpFullMatch: _full_match,
    exp.Try: _tried,
    exp.TryCast: _from_text,
    exp.UnixToTime: _time_of_seconds,
    "hash": _hash,
    "isfinite": _is_finite,
}
"""A node's class, or a function's name where sqlglot has no class, to what stands for it."""
