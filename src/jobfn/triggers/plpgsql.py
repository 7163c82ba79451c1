"""Generate the body of a trigger function, for each row or for all rows of a statement.

Pure. ``expressions.py`` provides the payloads and conditions; ``sql.py`` creates the function.
"""

from collections.abc import Sequence
from typing import Final

from jobfn.sql.quoting import quote_literal
from jobfn.triggers.expressions import (
    INDENT,
    TRIGGER_ROWS,
    Lines,
    RowExpressions,
    entity_expression,
    event_row,
    firing_condition,
    indent,
    needs_both_rows,
    payload_expression,
)
from jobfn.triggers.node import DataJobTrigger, Event
from jobfn.triggers.table import EnqueueMethod, EntitySource, JobsSchema, Table

#: Names of the transition tables with a statement's new and old rows.
NEW_ROWS: Final = "jobfn_new_rows"
OLD_ROWS: Final = "jobfn_old_rows"

#: Maximum number of payloads per call of ``add_jobs``, so that the array stays below 1 GB.
CHUNK_ROWS: Final = 100

_UUID_PATTERN: Final = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
_NIL_UUID: Final = "00000000-0000-0000-0000-000000000000"


def function_body(
    node: DataJobTrigger, table: Table, jobs: JobsSchema, *, each_statement: bool, entity: EntitySource | None = None
) -> str:
    """Return the body of a trigger function, until its ``end``."""
    bodies: list[tuple[Event, Lines]] = []
    for event in node.events:
        if node.signal is not None:
            signal = _signal_jobs if each_statement else _signal_job
            bodies.append((event, signal(node, table, jobs, event)))
        elif not each_statement:
            bodies.append((event, _enqueue_row(node, table, jobs, event, entity)))
        elif node.job_key is not None:
            bodies.append((event, _upsert_last_row(node, table, jobs, event, entity)))
        elif node.is_unique or jobs.enqueue_method is EnqueueMethod.ADD_JOBS:
            bodies.append((event, _add_jobs(node, table, jobs, event)))
        else:
            bodies.append((event, _insert_jobs(node, table, jobs, event, entity)))
    lines = _branch_by_event(bodies)
    if node.expires_in is None:
        return "\n".join(["begin", *indent([*lines, "return null;"]), "end"])
    # The default of jobs.expires_at reads this setting, however the job is added.
    setting = "'jobfn.expires_at'"
    return "\n".join(
        [
            "declare",
            f"{INDENT}jobfn_expires_at constant text := coalesce(current_setting({setting}, true), '');",
            "begin",
            f"{INDENT}perform set_config(",
            f"{INDENT * 2}{setting}, (clock_timestamp() + {quote_literal(node.expires_in)}::interval)::text, true",
            f"{INDENT});",
            *indent([*lines, f"perform set_config({setting}, jobfn_expires_at, true);", "return null;"]),
            "end",
        ]
    )


def _branch_by_event(bodies: Sequence[tuple[Event, Lines]]) -> Lines:
    """Branch by event; events with the same body share a branch."""
    groups: list[tuple[list[Event], Lines]] = []
    for event, body in bodies:
        shared = next((events for events, other in groups if other == body), None)
        if shared is not None:
            shared.append(event)
        else:
            groups.append(([event], body))
    if len(groups) == 1:
        return groups[0][1]
    lines: Lines = []
    for index, (events, body) in enumerate(groups):
        word = "if" if index == 0 else "elsif"
        test = " or ".join(f"tg_op = {quote_literal(event)}" for event in events)
        lines += [f"{word} {test} then", *indent(body)]
    return [*lines, "end if;"]


def _enqueue_row(
    node: DataJobTrigger, table: Table, jobs: JobsSchema, event: Event, entity: EntitySource | None
) -> Lines:
    entity_id = None if entity is None else entity_expression(entity, event, TRIGGER_ROWS)
    call = _add_job_call(node, jobs, payload_expression(node, table, event, TRIGGER_ROWS), entity_id)
    return [f"perform {call[0]}", *call[1:-1], f"{call[-1]};"]


def _insert_jobs(
    node: DataJobTrigger, table: Table, jobs: JobsSchema, event: Event, entity: EntitySource | None
) -> Lines:
    """Enqueue one job per row. Tests for rows first, because an INSERT of no rows would wake every worker."""
    source = _TransitionTableRows(node, table, event, numbered=False)
    columns = "database_id, actor_id, task_identifier, payload, queue_name, run_at, max_attempts, priority"
    values: list[Lines] = [
        [f"(select {jobs.sql}.jwt_claim('jwt.claims.database_id'))"],
        [f"(select {jobs.sql}.jwt_claim('jwt.claims.user_id'))"],
        [quote_literal(node.task_identifier)],
        payload_expression(node, table, event, source.rows),
        [quote_literal(node.queue_name) if node.queue_name is not None else "null"],
        [_run_at(node)],
        [str(node.max_attempts or 25)],
        [str(node.priority or 0)],
    ]
    if entity is not None:
        columns += ", entity_id"
        values.append([entity_expression(entity, event, source.rows)])
    insert = [
        f"insert into {jobs.sql}.jobs (",
        f"{INDENT}{columns}",
        ")",
        "select",
        *indent(_comma_separated(values)),
        *source.from_where(),
        *([f"order by {source.number}"] if source.number is not None else []),
    ]
    insert[-1] += ";"
    if_any = ["if exists (", *indent(["select", *source.from_where()]), ") then", *indent(insert), "end if;"]
    if not jobs.has_task_settings:
        return if_any
    settings = f"from {jobs.sql}.task_settings s where s.task_identifier = {quote_literal(node.task_identifier)}"
    by_function = _add_jobs(node, table, jobs, event) if entity is None else _add_each(node, table, jobs, event, entity)
    # has_task_settings is inlined, and false while no task has settings: then the table is not read.
    if_set = [f"if exists (select {settings}) then", *indent([*by_function, "return null;"]), "end if;"]
    return [f"if {jobs.sql}.has_task_settings() then", *indent(if_set), "end if;", *if_any]


def _add_each(node: DataJobTrigger, table: Table, jobs: JobsSchema, event: Event, entity: EntitySource) -> Lines:
    """Enqueue one job per row with ``add_job``, which takes entities."""
    source = _TransitionTableRows(node, table, event, numbered=True)
    payload = payload_expression(node, table, event, source.rows)
    call = _add_job_call(node, jobs, payload, entity_expression(entity, event, source.rows))
    lines = [f"perform {call[0]}", *call[1:], *source.from_where(), f"order by {source.number}"]
    lines[-1] += ";"
    return lines


def _add_jobs(node: DataJobTrigger, table: Table, jobs: JobsSchema, event: Event) -> Lines:
    """Enqueue one job per row with ``add_jobs`` or ``add_unique_jobs``, in chunks."""
    source = _TransitionTableRows(node, table, event, numbered=True)
    size = "array[cardinality(jobfn_chunk.payloads)]"
    arguments: list[Lines] = [
        [f"identifier := {quote_literal(node.task_identifier)}"],
        ["payloads := jobfn_chunk.payloads"],
    ]
    if node.queue_name is not None:
        arguments.append([f"queue_names := array_fill({quote_literal(node.queue_name)}::text, {size})"])
    if node.run_at_delay is not None:
        arguments.append([f"run_ats := array_fill({_run_at(node)}, {size})"])
    arguments += [*_limits(node), *_unique_arguments(node)]
    payload = payload_expression(node, table, event, source.rows)
    payload[-1] += " as payload"
    function = "add_unique_jobs" if node.is_unique else "add_jobs"
    call = [f"perform {jobs.sql}.{function}(", *indent(_comma_separated(arguments)), ")"]
    return _in_chunks(call, source, payload, ["array_agg(jobfn_job.payload order by jobfn_job.number) as payloads"])


def _signal_jobs(node: DataJobTrigger, table: Table, jobs: JobsSchema, event: Event) -> Lines:
    """Send one signal per row, in chunks."""
    source = _TransitionTableRows(node, table, event, numbered=True)
    values = [
        *payload_expression(node, table, event, source.rows),
        f"{_signal_key(node, event, source.rows)} as key",
    ]
    values[-2] += " as payload,"
    call = [f"perform {jobs.sql}.signal_jobs(jobfn_chunk.keys, {_signal_name(node)}, jobfn_chunk.payloads)"]
    arrays = [
        "array_agg(jobfn_job.key order by jobfn_job.number) as keys,",
        "array_agg(jobfn_job.payload order by jobfn_job.number) as payloads",
    ]
    return _in_chunks(call, source, values, arrays)


def _signal_job(node: DataJobTrigger, table: Table, jobs: JobsSchema, event: Event) -> Lines:
    payload = payload_expression(node, table, event, TRIGGER_ROWS)
    key = _signal_key(node, event, TRIGGER_ROWS)
    call = f"perform {jobs.sql}.signal_jobs(array[{key}], {_signal_name(node)}, array["
    return [call, *indent(payload), "]);"]


def _signal_key(node: DataJobTrigger, event: Event, rows: RowExpressions) -> str:
    column = f"{rows.column(event_row(event), node.job_key_field or '')}::text"
    return column if node.job_key_prefix is None else f"{quote_literal(node.job_key_prefix)} || {column}"


def _signal_name(node: DataJobTrigger) -> str:
    return quote_literal(node.signal or "")


def _in_chunks(call: Lines, source: "_TransitionTableRows", values: Lines, arrays: Lines) -> Lines:
    """Call a function with the arrays of each chunk of rows, so that no array exceeds 1 GB."""
    chunk = f"(jobfn_job.number - 1) / {CHUNK_ROWS}"
    values = [*values[:-1], f"{values[-1]},", f"{source.number} as number"]
    return [
        *call[:-1],
        f"{call[-1]} from (",
        *indent(["select", *indent(arrays)] if len(arrays) > 1 else [f"select {arrays[0]}"]),
        f"{INDENT}from (",
        *indent(["select", *indent(values), *source.from_where()], INDENT * 2),
        f"{INDENT}) as jobfn_job",
        f"{INDENT}group by {chunk}",
        f"{INDENT}order by {chunk}",
        ") as jobfn_chunk;",
    ]


def _upsert_last_row(
    node: DataJobTrigger, table: Table, jobs: JobsSchema, event: Event, entity: EntitySource | None
) -> Lines:
    """Enqueue a job for the last row only: with a job key, each row would replace the job of the previous one."""
    source = _TransitionTableRows(node, table, event, numbered=True)
    call = _add_job_call(node, jobs, ["jobfn_last.payload"], None if entity is None else "jobfn_last.entity_id")
    payload = payload_expression(node, table, event, source.rows)
    payload[-1] += " as payload"
    if entity is not None:
        payload[-1] += ","
        payload.append(f"{entity_expression(entity, event, source.rows)} as entity_id")
    select = ["select", *indent(payload), *source.from_where(), f"order by {source.number} desc", "limit 1"]
    return [f"perform {call[0]}", *call[1:], "from (", *indent(select), ") as jobfn_last;"]


def _add_job_call(node: DataJobTrigger, jobs: JobsSchema, payload: Lines, entity_id: str | None) -> Lines:
    """Call the schema's form of ``add_job`` with named arguments (contract, section 3)."""
    arguments: list[Lines] = []
    if jobs.enqueue_method is EnqueueMethod.ADD_JOB_WITH_TENANT:
        arguments.append(_tenant_argument(is_required=jobs.requires_tenant))
    arguments.append([f"identifier := {quote_literal(node.task_identifier)}"])
    arguments.append([f"payload := {payload[0]}", *payload[1:]])
    if node.job_key is not None:
        arguments.append([f"job_key := {quote_literal(node.job_key)}"])
    if node.queue_name is not None:
        arguments.append([f"queue_name := {quote_literal(node.queue_name)}"])
    if node.run_at_delay is not None:
        arguments.append([f"run_at := {_run_at(node)}"])
    if node.max_delay is not None:
        arguments.append([f"max_delay := {quote_literal(node.max_delay)}::interval"])
    arguments += [*_limits(node), *_unique_arguments(node)]
    if entity_id is not None:
        arguments.append([f"entity_id := {entity_id}"])
    function = "add_job" if node.max_delay is None else "add_debounced_job"
    function = "add_unique_job" if node.is_unique else function
    return [f"{jobs.sql}.{function}(", *indent(_comma_separated(arguments)), ")"]


def _limits(node: DataJobTrigger) -> list[Lines]:
    """Return what the node sets explicitly: the rest comes from the task's settings."""
    values = {"max_attempts": node.max_attempts, "priority": node.priority}
    return [[f"{name} := {value}"] for name, value in values.items() if value is not None]


def _unique_arguments(node: DataJobTrigger) -> list[Lines]:
    if not node.is_unique:
        return []
    arguments = [
        [f"unique_for := {quote_literal(node.unique_for)}::interval"]
        if node.unique_for is not None
        else [f"unique_until := {quote_literal(node.unique_until or '')}"]
    ]
    if node.unique_by is not None:
        fields = ", ".join(map(quote_literal, node.unique_by))
        arguments.append([f"unique_by := array[{fields}]::text[]"])
    return [*arguments, [f"on_conflict := {quote_literal(node.on_conflict)}"]]


def _tenant_argument(*, is_required: bool) -> Lines:
    """Return the session's tenant; invalid UUIDs become NULL, or the nil UUID if the table requires a tenant."""
    setting = "current_setting('jwt.claims.database_id', true)"
    tenant = f"case when {setting} ~ {quote_literal(_UUID_PATTERN)} then {setting}::uuid end"
    if not is_required:
        return [f"db_id := {tenant}"]
    return ["db_id := coalesce(", f"{INDENT}{tenant},", f"{INDENT}'{_NIL_UUID}'::uuid", ")"]


def _run_at(node: DataJobTrigger) -> str:
    return f"now() + {quote_literal(node.run_at_delay)}::interval" if node.run_at_delay is not None else "now()"


def _comma_separated(items: Sequence[Lines]) -> Lines:
    lines: Lines = []
    for index, item in enumerate(items):
        lines += item
        if index < len(items) - 1:
            lines[-1] += ","
    return lines


class _TransitionTableRows:
    """The changed rows of a statement as a FROM clause, for one event.

    PostgreSQL writes the old and the new rows of an UPDATE to two transition tables in the same order. They are joined
    by row number, because even the primary key may change.
    """

    def __init__(self, node: DataJobTrigger, table: Table, event: Event, *, numbered: bool) -> None:
        self._n, self._row = _unused_name("jobfn_n", table), _unused_name("jobfn_row", table)
        new, old = _unused_name("jobfn_new", table), _unused_name("jobfn_old", table)
        self._has_whole_row = node.payload_strategy == "row" or node.include_old
        self._numbered = numbered or needs_both_rows(node, event)
        self._main, self._rows = (old, OLD_ROWS) if event_row(event) == "OLD" else (new, NEW_ROWS)
        self._before = old if needs_both_rows(node, event) else None
        self.number = f"{self._main}.{self._n}" if self._numbered else None
        self.rows = RowExpressions(
            names={"NEW": new, "OLD": old}, whole={"NEW": self._whole(new), "OLD": self._whole(old)}
        )
        self._condition = firing_condition(node, table, event, self.rows)

    def from_where(self) -> Lines:
        """Return the FROM and WHERE clauses."""
        lines = self._from("from ", self._rows, self._main)
        if self._before is not None:
            lines += self._from("join ", OLD_ROWS, self._before)
            lines[-1] += f" using ({self._n})"
        return [*lines, *([f"where {self._condition}"] if self._condition is not None else [])]

    def _from(self, word: str, rows: str, alias: str) -> Lines:
        if not self._numbered:
            return [f"{word}{rows} as {alias}"]
        columns = [f"row_number() over () as {self._n}", f"{alias}.*"]
        columns += [f"{alias} as {self._row}"] if self._has_whole_row else []
        return [f"{word}(", f"{INDENT}select {', '.join(columns)}", f"{INDENT}from {rows} as {alias}", f") as {alias}"]

    def _whole(self, alias: str) -> str:
        return f"to_json({alias}.{self._row})" if self._numbered else f"to_json({alias})"


def _unused_name(name: str, table: Table) -> str:
    """Append underscores until no column has this name; a column name would take precedence."""
    while table.column(name) is not None:
        name += "_"
    return name
