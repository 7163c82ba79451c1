"""What a trigger sends and when it fires, as SQL expressions.

Pure. The same expressions serve a row-level trigger, where ``NEW`` and ``OLD`` are the rows, and a statement-level
one, where they come from transition tables: ``Rows`` says how they are reached. ``sql.py`` puts them into place.

Expressions are lists of lines rather than text, so that indenting them never touches a line break inside a name or
a value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from jobfn.triggers.conditions import (
    PATTERNS,
    WITHOUT_VALUE,
    AllOf,
    AnyOf,
    Comparison,
    Not,
    RowName,
    comparisons,
)
from jobfn.triggers.node import META_KEY, OLD_KEY, DataJobTrigger, Event
from jobfn.triggers.quoting import quote_identifier, quote_literal
from jobfn.triggers.table import CATALOG_OPERATORS, Column, Table

Lines = list[str]

INDENT: Final = "    "
_META_BEGIN: Final = f',"{META_KEY}":'
#: json_build_object takes at most 100 arguments.
_PAIRS_PER_CALL: Final = 50


@dataclass(frozen=True, slots=True)
class Rows:
    """How a statement reaches the changed row.

    Attributes:
        names: What stands before a column's name, for the row after (NEW) and before (OLD).
        whole: The whole row as json.
    """

    names: Mapping[RowName, str]
    whole: Mapping[RowName, str]

    def column(self, row: RowName, name: str) -> str:
        """A column of one of the rows."""
        return f"{self.names[row]}.{quote_identifier(name)}"


#: In a row-level trigger: PL/pgSQL's own records.
TRIGGER_ROWS: Final = Rows(names={"NEW": "NEW", "OLD": "OLD"}, whole={"NEW": "to_json(NEW)", "OLD": "to_json(OLD)"})


def row_of(event: Event) -> RowName:
    """The row that an event is about: as it is now, or as it was before a DELETE."""
    return "OLD" if event == "DELETE" else "NEW"


def needs_both_rows(node: DataJobTrigger, event: Event) -> bool:
    """Whether an event's trigger looks at the row before and after: only an UPDATE has both."""
    if event != "UPDATE":
        return False
    if node.watch_fields or node.include_old:
        return True
    tree = node.condition_tree()
    return tree is not None and any(
        comparison.compares_rows
        or comparison.row == "OLD"
        or (comparison.ref is not None and comparison.ref.row == "OLD")
        for comparison in comparisons(tree)
    )


def payload(node: DataJobTrigger, table: Table, event: Event, rows: Rows) -> Lines:
    """The payload's expression, of type json."""
    row = row_of(event)
    with_old = node.include_old and event == "UPDATE"
    if node.payload_strategy == "row" and not with_old:
        return _with_meta(rows.whole[row], node, table, event)
    pairs: list[tuple[str, str]] = []
    match node.payload_strategy:
        case "row":
            pairs.append(("new", rows.whole["NEW"]))
        case "row_id":
            id_column = table.id_column
            if id_column is None:
                raise ValueError(f"{table.label} has no primary key to send: resolve() comes first")
            pairs.append(("id", rows.column(row, id_column.name)))
        case "fields":
            pairs += [(name, rows.column(row, name)) for name in node.payload_fields or ()]
        case "custom":
            pairs += [(key, rows.column(row, name)) for key, name in (node.payload_custom or {}).items()]
    if with_old:
        pairs.append((OLD_KEY, rows.whole["OLD"]))
    if node.include_meta:
        pairs.append((META_KEY, _meta(table, event)))
    return _json_object(pairs)


def firing_condition(node: DataJobTrigger, table: Table, event: Event, rows: Rows) -> str | None:
    """When an event's trigger fires; None: always."""
    parts: list[str] = []
    tree = node.condition_tree()
    if tree is not None:
        parts = [condition(part, table, event, rows) for part in tree.conditions]
    if node.watch_fields and event == "UPDATE":
        parts.append(_any_of([_changes(_column(table, name), rows) for name in node.watch_fields]))
    return _all_of(parts) if parts else None


def condition(tree: Comparison | AllOf | AnyOf | Not, table: Table, event: Event, rows: Rows) -> str:
    """A condition as SQL, in brackets where it needs them."""
    match tree:
        case Comparison():
            return _comparison(tree, table, row_of(event), rows)
        case AllOf():
            return _all_of([condition(part, table, event, rows) for part in tree.conditions])
        case AnyOf():
            return _any_of([condition(part, table, event, rows) for part in tree.conditions])
        case Not():
            return f"not ({condition(tree.condition, table, event, rows)})"


def indented(lines: Lines, by: str = INDENT) -> Lines:
    """The same lines, further in."""
    return [by + line for line in lines]


def _comparison(comparison: Comparison, table: Table, default: RowName, rows: Rows) -> str:
    column = _column(table, comparison.field)
    left = rows.column(comparison.row or default, column.name)
    if comparison.compares_rows:
        return _changes(column, rows)
    if comparison.op in WITHOUT_VALUE:
        return f"{left} {comparison.op.lower()}"
    if comparison.ref is not None:
        other = _column(table, comparison.ref.field)
        right = rows.column(comparison.ref.row or default, other.name)
        deciding = column if not column.type.has_equality else other
    elif comparison.value is None:
        return f"{left} is not null"  # IS DISTINCT FROM null
    else:
        right = _pattern(comparison.value, column) if comparison.op in PATTERNS else _value(comparison.value, column)
        deciding = column
    if comparison.op == "IS DISTINCT FROM":
        return _distinct(left, right, deciding)
    return _operation(left, comparison.op, right, column)


def _value(value: str, column: Column) -> str:
    return f"{quote_literal(value)}::{column.type.name}"


def _pattern(value: str, column: Column) -> str:
    """A pattern is text, except where the column's type brings a LIKE of its own."""
    return _value(value, column) if column.type.schema_of_operator("LIKE") else quote_literal(value)


def _operation(left: str, operator: str, right: str, column: Column) -> str:
    schema = column.type.schema_of_operator(operator)
    if schema is not None:
        return f"{left} operator({schema}.{CATALOG_OPERATORS.get(operator, operator)}) {right}"
    return f"{left} {CATALOG_OPERATORS['!='] if operator == '!=' else operator.lower()} {right}"


def _changes(column: Column, rows: Rows) -> str:
    return _distinct(rows.column("OLD", column.name), rows.column("NEW", column.name), column)


def _distinct(left: str, right: str, column: Column) -> str:
    """NULL-safe difference. A type without ``=``, such as json, is compared by its text."""
    if not column.type.has_equality:
        return f"{left}::text is distinct from {right}::text"
    schema = column.type.schema_of_operator("=")
    if schema is None:
        return f"{left} is distinct from {right}"
    # IS DISTINCT FROM looks for = on the search path, and this one may not be there.
    return (
        f"case when {left} is null or {right} is null then ({left} is null) <> ({right} is null) "
        f"else not ({left} operator({schema}.=) {right}) end"
    )


def _all_of(parts: Sequence[str]) -> str:
    return _joined(parts, "and")


def _any_of(parts: Sequence[str]) -> str:
    return _joined(parts, "or")


def _joined(parts: Sequence[str], word: str) -> str:
    return parts[0] if len(parts) == 1 else "(" + f" {word} ".join(f"({part})" for part in parts) + ")"


def _with_meta(row: str, node: DataJobTrigger, table: Table, event: Event) -> Lines:
    """A whole row; ``_meta`` goes in before its closing brace, so that json columns keep their text."""
    if not node.include_meta:
        return [row]
    return [f"(left({row}::text, -1) || {quote_literal(_META_BEGIN)} || {_meta(table, event)}::text || '}}')::json"]


def _meta(table: Table, event: Event) -> str:
    """The event is spelled out: a column could be called tg_op. So is the table: TG_TABLE_NAME may be a partition."""
    schema, name = quote_literal(table.schema), quote_literal(table.name)
    return f"json_build_object('schema', {schema}, 'table', {name}, 'event', {quote_literal(event)})"


def _json_object(pairs: Sequence[tuple[str, str]]) -> Lines:
    """``{"key": value, ...}`` of any length: what does not fit one call is spliced together from several."""
    calls = [_one_object(pairs[start : start + _PAIRS_PER_CALL]) for start in range(0, len(pairs), _PAIRS_PER_CALL)]
    if len(calls) == 1:
        return calls[0]
    lines: Lines = ["(", f"{INDENT}'{{'"]
    for index, call in enumerate(calls):
        comma = "',' || " if index > 0 else ""
        lines += indented([f"|| {comma}left(substr(", *indented(call), "::text, 2), -1)"])
    return [*lines, f"{INDENT}|| '}}'", ")::json"]


def _one_object(pairs: Sequence[tuple[str, str]]) -> Lines:
    if len(pairs) == 1:
        return [f"json_build_object({quote_literal(pairs[0][0])}, {pairs[0][1]})"]
    lines = [f"{quote_literal(key)}, {value}," for key, value in pairs]
    lines[-1] = lines[-1].removesuffix(",")
    return ["json_build_object(", *indented(lines), ")"]


def _column(table: Table, name: str) -> Column:
    found = table.column(name)
    if found is None:
        raise ValueError(f"{table.label} has no column {name!r}: resolve() comes first")
    return found
