"""Generate the SQL expressions of a trigger: its payload and its condition.

Pure. The expressions work in row-level triggers, on ``NEW`` and ``OLD``, and in statement-level triggers, on transition
tables: ``RowExpressions`` abstracts the difference. Next step: ``sql.py``.

Expressions are lists of lines, so that indenting them does not change line breaks inside names and values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from jobfn.sql.quoting import quote_identifier, quote_literal
from jobfn.triggers.conditions import (
    PATTERN_OPERATORS,
    UNARY_OPERATORS,
    AllOf,
    AnyOf,
    Comparison,
    Not,
    RowName,
    comparisons,
)
from jobfn.triggers.node import META_KEY, OLD_KEY, DataJobTrigger, Event
from jobfn.triggers.table import CATALOG_OPERATORS, Column, EntitySource, Table

Lines = list[str]

INDENT: Final = "    "
_META_BEGIN: Final = f',"{META_KEY}":'
#: Maximum number of key-value pairs of ``json_build_object``, which accepts 100 arguments.
_PAIRS_PER_CALL: Final = 50


@dataclass(frozen=True, slots=True)
class RowExpressions:
    """SQL for the new and the old row."""

    names: Mapping[RowName, str]
    whole: Mapping[RowName, str]

    def column(self, row: RowName, name: str) -> str:
        """Return the expression for a column."""
        return f"{self.names[row]}.{quote_identifier(name)}"


#: The records of a row-level trigger.
TRIGGER_ROWS: Final = RowExpressions(
    names={"NEW": "NEW", "OLD": "OLD"}, whole={"NEW": "to_json(NEW)", "OLD": "to_json(OLD)"}
)


def event_row(event: Event) -> RowName:
    """Return the row that an event sends by default."""
    return "OLD" if event == "DELETE" else "NEW"


def needs_both_rows(node: DataJobTrigger, event: Event) -> bool:
    """Whether the trigger of an event reads NEW and OLD; only an UPDATE has both."""
    if event != "UPDATE":
        return False
    if node.watch_fields or node.include_old:
        return True
    tree = node.condition_tree()
    return tree is not None and any(
        comparison.detects_change
        or comparison.row == "OLD"
        or (comparison.ref is not None and comparison.ref.row == "OLD")
        for comparison in comparisons(tree)
    )


def payload_expression(node: DataJobTrigger, table: Table, event: Event, rows: RowExpressions) -> Lines:
    """Return the expression of the payload, of type json."""
    row = event_row(event)
    includes_old = node.include_old and event == "UPDATE"
    if node.payload_strategy == "row" and not includes_old:
        return _with_meta(rows.whole[row], node, table, event)
    pairs: list[tuple[str, str]] = []
    match node.payload_strategy:
        case "row":
            pairs.append(("new", rows.whole["NEW"]))
        case "row_id":
            id_column = table.id_column
            if id_column is None:
                raise ValueError(f"{table.label} has no primary key: call validate_columns() first")
            pairs.append(("id", rows.column(row, id_column.name)))
        case "fields":
            pairs += [(name, rows.column(row, name)) for name in node.payload_fields or ()]
        case "custom":
            pairs += [(key, rows.column(row, name)) for key, name in (node.payload_custom or {}).items()]
    if includes_old:
        pairs.append((OLD_KEY, rows.whole["OLD"]))
    if node.include_meta:
        pairs.append((META_KEY, _meta(table, event)))
    return _json_object(pairs)


def entity_expression(entity: EntitySource, event: Event, rows: RowExpressions) -> str:
    """Return the expression of the entity id, of type uuid."""
    column = rows.column(event_row(event), entity.column)
    if entity.lookup_table is None:
        return column
    field, key = quote_identifier(entity.lookup_field), quote_identifier(entity.lookup_key)
    select = f"select jobfn_entity.{field} from {entity.lookup_table} as jobfn_entity"  # noqa: S608  - quoted
    return f"({select} where jobfn_entity.{key} = {column})"


def firing_condition(node: DataJobTrigger, table: Table, event: Event, rows: RowExpressions) -> str | None:
    """Return the condition for an event to enqueue; None if it always does."""
    parts: list[str] = []
    tree = node.condition_tree()
    if tree is not None:
        parts = [condition_sql(part, table, event, rows) for part in tree.conditions]
    if node.watch_fields and event == "UPDATE":
        parts.append(_join([_is_changed(_column(table, name), rows) for name in node.watch_fields], "or"))
    return _join(parts, "and") if parts else None


def condition_sql(tree: Comparison | AllOf | AnyOf | Not, table: Table, event: Event, rows: RowExpressions) -> str:
    """Return the SQL of a condition."""
    match tree:
        case Comparison():
            return _comparison(tree, table, event_row(event), rows)
        case AllOf():
            return _join([condition_sql(part, table, event, rows) for part in tree.conditions], "and")
        case AnyOf():
            return _join([condition_sql(part, table, event, rows) for part in tree.conditions], "or")
        case Not():
            return f"not ({condition_sql(tree.condition, table, event, rows)})"


def indent(lines: Lines, by: str = INDENT) -> Lines:
    """Indent lines."""
    return [by + line for line in lines]


def _comparison(comparison: Comparison, table: Table, default: RowName, rows: RowExpressions) -> str:
    column = _column(table, comparison.field)
    left = rows.column(comparison.row or default, column.name)
    if comparison.detects_change:
        return _is_changed(column, rows)
    if comparison.op in UNARY_OPERATORS:
        return f"{left} {comparison.op.lower()}"
    if comparison.ref is not None:
        other = _column(table, comparison.ref.field)
        right = rows.column(comparison.ref.row or default, other.name)
        # The comparison is as text if either type has no =.
        compared = column if not column.type.has_equality else other
    elif comparison.value is None:
        return f"{left} is not null"  # IS DISTINCT FROM null
    else:
        right = (
            _pattern(comparison.value, column)
            if comparison.op in PATTERN_OPERATORS
            else _value(comparison.value, column)
        )
        compared = column
    if comparison.op == "IS DISTINCT FROM":
        return _is_distinct(left, right, compared)
    return _operation(left, comparison.op, right, column)


def _value(value: str, column: Column) -> str:
    # Checks of the type's owner must not run when the statement is parsed, by the role that creates the trigger.
    late = "::text" if column.type.input_runs_code else ""
    return f"{quote_literal(value)}{late}::{column.type.name}"


def _pattern(value: str, column: Column) -> str:
    """Return a pattern as text, unless the column's type has its own LIKE operator."""
    return _value(value, column) if column.type.operator_schema("LIKE") else quote_literal(value)


def _operation(left: str, operator: str, right: str, column: Column) -> str:
    schema = column.type.operator_schema(operator)
    if schema is not None:
        return f"{left} operator({schema}.{CATALOG_OPERATORS.get(operator, operator)}) {right}"
    return f"{left} {CATALOG_OPERATORS['!='] if operator == '!=' else operator.lower()} {right}"


def _is_changed(column: Column, rows: RowExpressions) -> str:
    return _is_distinct(rows.column("OLD", column.name), rows.column("NEW", column.name), column)


def _is_distinct(left: str, right: str, column: Column) -> str:
    """Return a NULL-safe inequality. Types without ``=``, for example json, are compared as text."""
    if not column.type.has_equality:
        return f"{left}::text is distinct from {right}::text"
    schema = column.type.operator_schema("=")
    if schema is None:
        return f"{left} is distinct from {right}"
    # IS DISTINCT FROM looks up = on the search path, which may not contain this operator.
    return (
        f"case when {left} is null or {right} is null then ({left} is null) <> ({right} is null) "
        f"else not ({left} operator({schema}.=) {right}) end"
    )


def _join(parts: Sequence[str], word: str) -> str:
    return parts[0] if len(parts) == 1 else "(" + f" {word} ".join(f"({part})" for part in parts) + ")"


def _with_meta(row: str, node: DataJobTrigger, table: Table, event: Event) -> Lines:
    """Append ``_meta`` before the closing brace of a row, so that json columns keep their text."""
    if not node.include_meta:
        return [row]
    return [f"(left({row}::text, -1) || {quote_literal(_META_BEGIN)} || {_meta(table, event)}::text || '}}')::json"]


def _meta(table: Table, event: Event) -> str:
    """Return ``_meta`` from literals: a column may be named tg_op, and TG_TABLE_NAME may be a partition."""
    schema, name = quote_literal(table.schema), quote_literal(table.name)
    return f"json_build_object('schema', {schema}, 'table', {name}, 'event', {quote_literal(event)})"


def _json_object(pairs: Sequence[tuple[str, str]]) -> Lines:
    """Build an object of any size; concatenates several calls if one cannot take all pairs."""
    calls = [_one_object(pairs[start : start + _PAIRS_PER_CALL]) for start in range(0, len(pairs), _PAIRS_PER_CALL)]
    if len(calls) == 1:
        return calls[0]
    lines: Lines = ["(", f"{INDENT}'{{'"]
    for index, call in enumerate(calls):
        comma = "',' || " if index > 0 else ""
        lines += indent([f"|| {comma}left(substr(", *indent(call), "::text, 2), -1)"])
    return [*lines, f"{INDENT}|| '}}'", ")::json"]


def _one_object(pairs: Sequence[tuple[str, str]]) -> Lines:
    if len(pairs) == 1:
        return [f"json_build_object({quote_literal(pairs[0][0])}, {pairs[0][1]})"]
    lines = [f"{quote_literal(key)}, {value}," for key, value in pairs]
    lines[-1] = lines[-1].removesuffix(",")
    return ["json_build_object(", *indent(lines), ")"]


def _column(table: Table, name: str) -> Column:
    column = table.column(name)
    if column is None:
        raise ValueError(f"{table.label} has no column {name!r}: call validate_columns() first")
    return column
