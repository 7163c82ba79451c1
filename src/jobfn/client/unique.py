"""Statements for unique and for debounced jobs. Loaded when an option or a task asks for one."""

from collections.abc import Mapping
from typing import Any

from jobfn.client.statements import Statement, Value
from jobfn.client.validation import validate_duration
from jobfn.errors import EnqueueError
from jobfn.unique import Unique, parse_unique


def read_unique(options: Mapping[str, Any], default: Unique | None) -> Unique | None:
    """Return how a job is unique: the options override the task's own, one by one.

    Raises:
        EnqueueError: An option is not valid.
    """
    unique, fields, on_conflict = (options.get(name) for name in ("unique", "unique_by", "on_conflict"))
    if default is not None:
        unique = unique if unique is not None else default.period or f"until_{default.until}"
        fields = fields if fields is not None else default.fields
        on_conflict = on_conflict if on_conflict is not None else default.on_conflict
    try:
        return parse_unique(unique, fields, on_conflict)
    except ValueError as error:
        raise EnqueueError(str(error)) from None


def unique_or_debounced(
    options: Mapping[str, Any],
    default: Unique | None,
    schema: str,
    values: tuple[Value, ...],
    dependencies: tuple[Value, str],
) -> tuple[Statement | None, Unique | None]:
    """Return the statement that adds one such job; None for an ordinary one.

    Args:
        options: The options of ``enqueue``.
        default: How the task's jobs are unique.
        schema: The jobs schema.
        values: The values of ``add_job_for_entity``.
        dependencies: The ids of the jobs that it depends on, and whether it ignores their failures, as text.

    Raises:
        EnqueueError: An option is not valid.
    """
    unique = read_unique(options, default)
    max_delay = options.get("max_delay")
    if max_delay is not None:
        interval = validate_duration("max_delay", max_delay)
        if options.get("key") is None or options.get("run_at") is None:
            raise EnqueueError("max_delay needs key and run_at: it limits how long a job with a key can be put off")
        if unique is not None or dependencies[0] is not None:
            raise EnqueueError("max_delay excludes unique and depends_on: leave one of them out")
        return Statement("add_debounced_job", schema, (*values, interval)), None
    if unique is None:
        return None, None
    if dependencies[0] is not None and unique.on_conflict == "replace":
        raise EnqueueError("on_conflict='replace' and depends_on exclude each other: leave one of them out")
    # A duplicate that is an error is kept in the database, so that the user's transaction can go on.
    on_conflict = "replace" if unique.on_conflict == "replace" else "keep"
    statement = Statement("add_unique_job", schema, (*values, *dependencies, *_rule(unique), on_conflict))
    return statement, unique


def many_unique(unique: Unique, schema: str, values: tuple[Value, ...]) -> Statement:
    """Return the statement that adds many unique jobs; the values are those of ``add_jobs``, without the tenant."""
    return Statement("add_unique_jobs", schema, (*values, *_rule(unique), unique.on_conflict))


def _rule(unique: Unique) -> tuple[Value, ...]:
    return unique.interval, unique.until, None if unique.fields is None else list(unique.fields)
