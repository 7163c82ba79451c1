"""Does a trigger fit its table? Every column that it names is looked up; the first that is not there is an error.

Pure. What only PostgreSQL can tell, such as whether a value is one of the column's type, ``verify.py`` asks it.
"""

from collections.abc import Iterator

from jobfn.errors import BlueprintError
from jobfn.triggers.conditions import Comparison, comparisons
from jobfn.triggers.node import META_KEY, DataJobTrigger
from jobfn.triggers.table import Table, nearest, shown


def place(table: str, node: DataJobTrigger) -> str:
    """Where an error is: the table and the node."""
    return f"table {table}, DataJobTrigger {shown(node.task_identifier)}"


def resolve(node: DataJobTrigger, table: Table) -> list[str]:
    """Look up every column that a node names.

    Args:
        node: The trigger.
        table: The table, as the database has it.

    Returns:
        Notices: what is allowed and perhaps not meant.

    Raises:
        BlueprintError: A column is not there, or the table has no primary key for ``row_id``; names the table, the
            node and the parameter.
    """
    problem = next(_problems(node, table), None)
    if problem is not None:
        raise BlueprintError(f"{place(table.label, node)}: {problem}")
    return [*node.notices(), *_notices(node, table)]


def _problems(node: DataJobTrigger, table: Table) -> Iterator[str]:
    if not table.columns:
        yield "the table has no columns, so there is nothing to send"
    for parameter, name in _named(node):
        column = table.column(name)
        if column is None:
            known = nearest(name, (column.name for column in table.columns))
            yield f"{parameter}: the table has no column {shown(name)}{known}"
        elif column.is_virtual:
            yield f"{parameter}: {shown(name)} is a virtual generated column, whose value triggers do not see"
    if node.payload_strategy == "row_id" and table.id_column is None:
        yield f"payload_strategy: row_id sends the primary key, and {_key_problem(table)}; choose fields or row"
    if node.payload_strategy == "row":
        yield from _row_problems(node, table)


def _row_problems(node: DataJobTrigger, table: Table) -> Iterator[str]:
    sends_columns = not node.include_old or node.events != ("UPDATE",)
    if node.include_meta and sends_columns and table.column(META_KEY) is not None:
        yield f"include_meta: the table has a column {META_KEY} of its own; send it under another name with custom"


def _key_problem(table: Table) -> str:
    if not table.primary_key:
        return "the table has none"
    columns = ", ".join(shown(name) for name in table.primary_key)
    return f"the table's has several columns ({columns}), none of them called id"


def _named(node: DataJobTrigger) -> Iterator[tuple[str, str]]:
    """Every column that the node names, with the parameter that does."""
    if node.payload_strategy == "fields":
        yield from (("payload_fields", name) for name in node.payload_fields or ())
    if node.payload_strategy == "custom":
        yield from (("payload_custom", name) for name in (node.payload_custom or {}).values())
    yield from (("watch_fields", name) for name in node.watch_fields or ())
    if node.condition_field is not None:
        yield "condition_field", node.condition_field
    for condition in node.conditions or ():
        for comparison in comparisons(condition):
            yield from (("conditions", name) for name in _columns_of(comparison))


def _columns_of(comparison: Comparison) -> Iterator[str]:
    yield comparison.field
    if comparison.ref is not None:
        yield comparison.ref.field


def _notices(node: DataJobTrigger, table: Table) -> Iterator[str]:
    if node.payload_strategy == "row" or (node.include_old and "UPDATE" in node.events):
        for column in table.columns:
            if column.is_virtual:
                yield f"{shown(column.name)} is a virtual generated column: triggers do not see its value and send null"
