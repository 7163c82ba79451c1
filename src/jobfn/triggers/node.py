"""``DataJobTrigger``: the parameters of one trigger (contract, section 4).

Pure. Checks everything that does not depend on the table. Next steps: ``validate_columns.py`` checks the column names,
``sql.py`` generates the SQL.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from jobfn.triggers.conditions import (
    AllOf,
    Comparison,
    ComparisonValue,
    Condition,
    PgName,
    PgText,
    PgTextValidator,
    comparisons,
)
from jobfn.unique import MAX_FIELDS
from jobfn.wire import MAX_TASK_IDENTIFIER_CHARACTERS
from jobfn.wire.steps import MAX_STEP_NAME_CHARACTERS

Event = Literal["INSERT", "UPDATE", "DELETE"]
PayloadStrategy = Literal["row_id", "row", "fields", "custom"]

EVENTS: Final[tuple[Event, ...]] = get_args(Event)
#: Accepted ``$type`` values: the contract's name and the platform's newer one.
NODE_TYPES: Final = ("DataJobTrigger", "JobTrigger")
#: Payload keys that ``include_old`` and ``include_meta`` add.
OLD_KEY: Final = "old"
META_KEY: Final = "_meta"

_MAX_INT: Final = 2**31 - 1
#: Parameters of the job that a trigger adds, which a signal does not have.
_JOB_PARAMETERS: Final = (
    "task_identifier",
    "entity_field",
    "entity_lookup",
    "job_key",
    "queue_name",
    "priority",
    "run_at_delay",
    "max_delay",
    "expires_in",
    "max_attempts",
    "unique_for",
    "unique_until",
    "unique_by",
    "on_conflict",
)


def _sort_events(events: Any) -> Any:
    """Sort events and drop duplicates; their order has no meaning."""
    if not isinstance(events, (list, tuple)) or any(event not in EVENTS for event in events):
        return events
    return tuple(event for event in EVENTS if event in events)


def _as_list(conditions: Any) -> Any:
    return conditions if isinstance(conditions, (list, tuple)) else (conditions,)


class EntityLookup(BaseModel):
    """The column of a related table that holds the entity id; ``entity_field`` is a foreign key to that table.

    Attributes:
        obj_table: Name of the related table.
        obj_field: Its column with the entity id.
        obj_schema: Its schema. Default: the only schema that has a table of this name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    obj_table: PgName
    obj_field: PgName
    obj_schema: PgName | None = None


_ColumnNames = Annotated[tuple[PgName, ...], Field(min_length=1)]


class DataJobTrigger(BaseModel):
    """A trigger that enqueues a job of one task, or signals a job, in the transaction that changes a row.

    Parameter names and defaults are the platform's; None means the default. The platform has no signals.

    Attributes:
        task_identifier: Task identifier, 1 to 126 characters. Required without ``signal``.
        payload_strategy: Payload of the job: ``row_id`` (``{"id": ...}``, the default), ``row`` (all columns),
            ``fields`` (the columns of ``payload_fields``) or ``custom`` (the columns of ``payload_custom``, renamed).
        payload_fields: Columns that ``fields`` sends.
        payload_custom: Columns that ``custom`` sends, as ``{"key": "column"}``.
        events: Events that fire the trigger. Default: INSERT and UPDATE.
        watch_fields: An UPDATE fires only if one of these columns changes. Does not affect INSERT and DELETE.
        condition_field: Column that must equal ``condition_value``. Excludes ``watch_fields``.
        condition_value: Value of ``condition_field``, cast to the column's type.
        conditions: Comparisons that must all be true, combined with AND, OR and NOT. Excludes ``watch_fields`` and
            ``condition_field``.
        include_old: On UPDATE, also send the old row.
        include_meta: Also send ``_meta``: schema, table and event.
        entity_field: Column with the entity id of the job, a uuid; with ``entity_lookup``, a foreign key.
        entity_lookup: Column of the related table with the entity id.
        job_key: Key of the job. A later change replaces the waiting job with this key.
        queue_name: Queue of the job. Jobs of one queue run one at a time.
        priority: Jobs with a lower priority run first. Default: of the task's settings, else 0.
        run_at_delay: Delay of the job, as a PostgreSQL interval, for example ``30 seconds``.
        max_delay: With ``job_key`` and ``run_at_delay``: maximum delay of a job that changes replace again and again.
        expires_in: The job is not started this PostgreSQL interval after the change or later.
        max_attempts: Maximum number of attempts. Default: of the task's settings, else 25.
        unique_for: Add no second job with the same payload within this PostgreSQL interval.
        unique_until: Add no second job with the same payload until the first one is ``started`` or ``done``.
        unique_by: Keys of the payload to compare, for ``unique_for`` and ``unique_until``. Default: the whole payload.
        on_conflict: What happens to a duplicate: ``keep`` the existing job (default), ``replace`` it while it waits, or
            fail the change (``error``).
        signal: Send this signal instead of adding a job, 1 to 200 characters.
        job_key_field: Column with the key of the job that gets the signal. Rows without a key send none.
        job_key_prefix: Text before the value of ``job_key_field``, for example ``order-``.

    Raises:
        pydantic.ValidationError: A parameter is missing, unknown or invalid. ``blueprint.parse_node`` converts the
            error to a one-line ``BlueprintError``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task_identifier: Annotated[str, Field(min_length=1, max_length=MAX_TASK_IDENTIFIER_CHARACTERS), PgTextValidator] = (
        ""
    )
    payload_strategy: PayloadStrategy = "row_id"
    payload_fields: _ColumnNames | None = None
    payload_custom: dict[PgText, PgName] | None = Field(default=None, min_length=1)
    events: Annotated[tuple[Event, ...], BeforeValidator(_sort_events), Field(min_length=1)] = ("INSERT", "UPDATE")
    watch_fields: _ColumnNames | None = None
    condition_field: PgName | None = None
    condition_value: ComparisonValue | None = None
    conditions: Annotated[tuple[Condition, ...], BeforeValidator(_as_list), Field(min_length=1)] | None = None
    include_old: bool = Field(default=False, strict=True)
    include_meta: bool = Field(default=False, strict=True)
    entity_field: PgName | None = None
    entity_lookup: EntityLookup | None = None
    job_key: Annotated[str, Field(min_length=1, max_length=512), PgTextValidator] | None = None
    queue_name: Annotated[str, Field(min_length=1, max_length=126), PgTextValidator] | None = None
    priority: int | None = Field(default=None, strict=True, ge=-_MAX_INT - 1, le=_MAX_INT)
    run_at_delay: Annotated[str, Field(min_length=1), PgTextValidator] | None = None
    max_delay: Annotated[str, Field(min_length=1), PgTextValidator] | None = None
    expires_in: Annotated[str, Field(min_length=1), PgTextValidator] | None = None
    max_attempts: int | None = Field(default=None, strict=True, ge=1, le=_MAX_INT)
    unique_for: Annotated[str, Field(min_length=1), PgTextValidator] | None = None
    unique_until: Literal["started", "done"] | None = None
    unique_by: Annotated[tuple[PgText, ...], Field(max_length=MAX_FIELDS)] | None = None
    on_conflict: Literal["keep", "replace", "error"] = "keep"
    signal: Annotated[str, Field(min_length=1, max_length=MAX_STEP_NAME_CHARACTERS), PgTextValidator] | None = None
    job_key_field: PgName | None = None
    job_key_prefix: Annotated[str, Field(min_length=1, max_length=511), PgTextValidator] | None = None

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: Any) -> Any:
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _check_conflicts(self) -> Self:
        problem = next(self._conflicts(), None)
        if problem is not None:
            raise ValueError(problem)
        return self

    @property
    def is_unique(self) -> bool:
        """Whether the jobs are unique."""
        return self.unique_for is not None or self.unique_until is not None

    @property
    def label(self) -> str:
        """The task, or ``signal`` and its name, for messages and the names of objects."""
        return self.task_identifier if self.signal is None else f"signal {self.signal}"

    def condition_tree(self) -> AllOf | None:
        """Return ``conditions`` or ``condition_field`` as one condition; does not include ``watch_fields``."""
        if self.conditions is not None:
            return AllOf(AND=self.conditions)
        if self.condition_field is not None:
            return AllOf(AND=(Comparison(field=self.condition_field, op="=", value=self.condition_value),))
        return None

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that differ from their defaults, as JSON values."""
        values = self.model_dump(mode="json", by_alias=True, exclude_unset=True)
        fields = type(self).model_fields
        return {name: value for name, value in values.items() if getattr(self, name) != fields[name].default}

    def notices(self) -> list[str]:
        """Return warnings about parameters that have no effect."""
        notices = [
            f"{name} has no effect with payload_strategy {self.payload_strategy}"
            for name, strategy in (("payload_fields", "fields"), ("payload_custom", "custom"))
            if getattr(self, name) is not None and self.payload_strategy != strategy
        ]
        if "UPDATE" not in self.events:
            notices += [
                f"{name} has no effect without the event UPDATE"
                for name in ("watch_fields", "include_old")
                if getattr(self, name)
            ]
        return notices

    def _conflicts(self) -> Iterator[str]:
        yield from self._signal_conflicts()
        if self.payload_strategy == "fields" and self.payload_fields is None:
            yield "payload_fields is missing: payload_strategy fields needs it"
        if self.payload_strategy == "custom" and self.payload_custom is None:
            yield 'payload_custom is missing: payload_strategy custom needs {"key": "column"}'
        if self.entity_lookup is not None and self.entity_field is None:
            yield "entity_field is missing: entity_lookup needs the foreign key to look up"
        for name in ("payload_fields", "watch_fields"):
            columns = getattr(self, name) or ()
            for duplicate in (column for index, column in enumerate(columns) if column in columns[:index]):
                yield f"{name}: {duplicate!r} occurs twice"
        yield from self._unique_conflicts()
        yield from self._key_conflicts()
        yield from self._condition_conflicts()

    def _signal_conflicts(self) -> Iterator[str]:
        if self.signal is None:
            for name in ("job_key_field", "job_key_prefix"):
                if getattr(self, name) is not None:
                    yield f"signal is missing: {name} names the job that a signal is for"
            if not self.task_identifier:
                yield "task_identifier is missing"
            return
        fields = type(self).model_fields
        for name in _JOB_PARAMETERS:
            if getattr(self, name) != fields[name].default:
                yield f"signal and {name} exclude each other: a signal adds no job"
        if self.job_key_field is None:
            yield "job_key_field is missing: signal needs the column with the key of the job"

    def _unique_conflicts(self) -> Iterator[str]:
        if self.max_delay is not None and (self.job_key is None or self.run_at_delay is None):
            yield "max_delay needs job_key and run_at_delay: it limits how long changes can put the job off"
        if self.unique_for is not None and self.unique_until is not None:
            yield "unique_for and unique_until exclude each other"
        if not self.is_unique:
            for name in ("unique_by", "on_conflict"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    yield f"{name} needs unique_for or unique_until"
        elif self.job_key is not None:
            yield "job_key excludes unique_for and unique_until: a job with a key replaces the waiting one"

    def _key_conflicts(self) -> Iterator[str]:
        keys = {"fields": self.payload_fields, "custom": self.payload_custom}.get(self.payload_strategy) or ()
        for key, option in ((META_KEY, "include_meta"), (OLD_KEY, "include_old")):
            if getattr(self, option) and key in keys:
                yield f"payload_{self.payload_strategy}: {option} adds the key {key!r}: rename the column with custom"

    def _condition_conflicts(self) -> Iterator[str]:
        if self.condition_field is not None and self.watch_fields is not None:
            yield "condition_field and watch_fields exclude each other: use conditions"
        if self.conditions is not None:
            for name in ("condition_field", "watch_fields"):
                if getattr(self, name) is not None:
                    yield f"conditions and {name} exclude each other: use IS DISTINCT FROM in conditions to watch"
        if self.condition_field is not None and self.condition_value is None:
            yield "condition_value is missing: condition_field needs it; to compare with NULL, use conditions"
        if self.condition_value is not None and self.condition_field is None:
            yield "condition_field is missing: condition_value needs it"
        for condition in self.conditions or ():
            for comparison in comparisons(condition):
                yield from self._row_conflicts(comparison)

    def _row_conflicts(self, comparison: Comparison) -> Iterator[str]:
        """Yield an error for a row that an event does not have; PostgreSQL would reject the trigger."""
        rows = {comparison.row, comparison.ref.row if comparison.ref is not None else None}
        if comparison.detects_change:
            rows = {"OLD", "NEW"}
        for row, event in (("OLD", "INSERT"), ("NEW", "DELETE")):
            if row in rows and event in self.events:
                yield (
                    f"conditions: {comparison.field!r} uses row {row}, which {event} does not have: "
                    f"move {event} out of events ({', '.join(self.events)}) to a separate trigger"
                )
