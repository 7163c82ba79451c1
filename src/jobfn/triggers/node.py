"""``DataJobTrigger``: what a blueprint says about the jobs that a table's changes enqueue (contract, section 4).

Pure. Whatever can be wrong without knowing the table is found here; ``resolve.py`` looks at the table's columns.
The flow goes on in ``sql.py``.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from jobfn.triggers.conditions import (
    AllOf,
    Comparison,
    ComparisonValue,
    Condition,
    Name,
    Storable,
    StorableText,
    comparisons,
)
from jobfn.wire import MAX_TASK_IDENTIFIER_CHARACTERS

Event = Literal["INSERT", "UPDATE", "DELETE"]
Strategy = Literal["row_id", "row", "fields", "custom"]

EVENTS: Final[tuple[Event, ...]] = get_args(Event)
#: ``$type`` of the node: as the mission text has it, and as the platform also writes it now.
NODE_TYPES: Final = ("DataJobTrigger", "JobTrigger")
#: What ``include_old`` and ``include_meta`` add beside the columns.
OLD_KEY: Final = "old"
META_KEY: Final = "_meta"

_MAX_INT: Final = 2**31 - 1


def _in_order(events: Any) -> Any:
    """INSERT, UPDATE, DELETE, each once, however they are written: their order means nothing."""
    if not isinstance(events, (list, tuple)) or any(event not in EVENTS for event in events):
        return events
    return tuple(event for event in EVENTS if event in events)


def _as_list(conditions: Any) -> Any:
    return conditions if isinstance(conditions, (list, tuple)) else (conditions,)


_ColumnNames = Annotated[tuple[Name, ...], Field(min_length=1)]


class DataJobTrigger(BaseModel):
    """Jobs of one task, enqueued in the transaction that changes a row.

    Every parameter of the platform's node, under its name and with its default; None counts as not given.

    Attributes:
        task_identifier: The task, 1 to 126 characters.
        payload_strategy: What is sent: ``row_id`` (``{"id": ...}``), ``row`` (the whole row), ``fields`` (the
            columns of ``payload_fields``) or ``custom`` (those of ``payload_custom``, under other names).
        payload_fields: The columns that ``fields`` sends.
        payload_custom: What ``custom`` sends: ``{"key": "column"}``.
        events: Which changes count. Default: INSERT and UPDATE.
        watch_fields: An UPDATE counts only when one of these columns changes; INSERT and DELETE always do.
        condition_field: A column that must equal ``condition_value`` (of OLD on DELETE). Not with ``watch_fields``.
        condition_value: The value, cast to the column's type.
        conditions: Comparisons, all of which must be true, or AND, OR and NOT of them. Instead of the three above.
        include_old: On UPDATE also send the row as it was.
        include_meta: Also send ``_meta``: schema, table and event.
        job_key: At most one waiting job has it; a further change replaces that one.
        queue_name: Jobs of one queue run one at a time.
        priority: Lower runs first. Default 0.
        run_at_delay: A PostgreSQL interval, such as ``30 seconds``, until the job may run.
        max_attempts: How often it may be tried. Default 25.

    Raises:
        pydantic.ValidationError: A parameter is missing, unknown or impossible. ``blueprint.parse_node`` says
            the same as a ``BlueprintError``, in one line.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task_identifier: Annotated[str, Field(min_length=1, max_length=MAX_TASK_IDENTIFIER_CHARACTERS), Storable]
    payload_strategy: Strategy = "row_id"
    payload_fields: _ColumnNames | None = None
    payload_custom: dict[StorableText, Name] | None = Field(default=None, min_length=1)
    events: Annotated[tuple[Event, ...], BeforeValidator(_in_order), Field(min_length=1)] = ("INSERT", "UPDATE")
    watch_fields: _ColumnNames | None = None
    condition_field: Name | None = None
    condition_value: ComparisonValue | None = None
    conditions: Annotated[tuple[Condition, ...], BeforeValidator(_as_list), Field(min_length=1)] | None = None
    include_old: bool = Field(default=False, strict=True)
    include_meta: bool = Field(default=False, strict=True)
    job_key: Annotated[str, Field(min_length=1, max_length=512), Storable] | None = None
    queue_name: Annotated[str, Field(min_length=1, max_length=126), Storable] | None = None
    priority: int = Field(default=0, strict=True, ge=-_MAX_INT - 1, le=_MAX_INT)
    run_at_delay: Annotated[str, Field(min_length=1), Storable] | None = None
    max_attempts: int = Field(default=25, strict=True, ge=1, le=_MAX_INT)

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, data: Any) -> Any:
        return {key: value for key, value in data.items() if value is not None} if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        problem = next(self._contradictions(), None)
        if problem is not None:
            raise ValueError(problem)
        return self

    def condition_tree(self) -> AllOf | None:
        """What must be true of a row, from whichever parameter says it; ``watch_fields`` is not among them."""
        if self.conditions is not None:
            return AllOf(AND=self.conditions)
        if self.condition_field is not None:
            return AllOf(AND=(Comparison(field=self.condition_field, op="=", value=self.condition_value),))
        return None

    def parameters(self) -> dict[str, Any]:
        """The parameters that differ from their defaults, as JSON values."""
        given = self.model_dump(mode="json", by_alias=True, exclude_unset=True)
        fields = type(self).model_fields
        return {name: value for name, value in given.items() if getattr(self, name) != fields[name].default}

    def notices(self) -> list[str]:
        """Parameters that have no effect as they stand: allowed, and perhaps a mistake."""
        found = [
            f"{name} has no effect with payload_strategy {self.payload_strategy}"
            for name, strategy in (("payload_fields", "fields"), ("payload_custom", "custom"))
            if getattr(self, name) is not None and self.payload_strategy != strategy
        ]
        if "UPDATE" not in self.events:
            found += [
                f"{name} has no effect without the event UPDATE"
                for name in ("watch_fields", "include_old")
                if getattr(self, name)
            ]
        return found

    def _contradictions(self) -> Iterator[str]:
        if self.payload_strategy == "fields" and self.payload_fields is None:
            yield "payload_fields: missing, and payload_strategy fields sends just these columns"
        if self.payload_strategy == "custom" and self.payload_custom is None:
            yield 'payload_custom: missing, and payload_strategy custom sends just these: {"key": "column"}'
        for name in ("payload_fields", "watch_fields"):
            names = getattr(self, name) or ()
            for twice in (column for index, column in enumerate(names) if column in names[:index]):
                yield f"{name}: {twice!r} is there twice"
        yield from self._key_conflicts()
        yield from self._condition_conflicts()

    def _key_conflicts(self) -> Iterator[str]:
        sent = {"fields": self.payload_fields, "custom": self.payload_custom}.get(self.payload_strategy) or ()
        name = f"payload_{self.payload_strategy}"
        if self.include_meta and META_KEY in sent:
            yield f"{name}: {META_KEY!r} is what include_meta adds; send the column under another name with custom"
        if self.include_old and OLD_KEY in sent:
            yield f"{name}: {OLD_KEY!r} is what include_old adds; send the column under another name with custom"

    def _condition_conflicts(self) -> Iterator[str]:
        if self.condition_field is not None and self.watch_fields is not None:
            yield "condition_field and watch_fields: one of them, not both; conditions can say more"
        if self.conditions is not None:
            for name in ("condition_field", "watch_fields"):
                if getattr(self, name) is not None:
                    yield f"conditions and {name}: one of them, not both; in conditions, IS DISTINCT FROM watches"
        if self.condition_field is not None and self.condition_value is None:
            yield "condition_value: missing, and condition_field is compared with it; for NULL, use conditions"
        if self.condition_value is not None and self.condition_field is None:
            yield "condition_field: missing, and condition_value is what it is compared with"
        for condition in self.conditions or ():
            for comparison in comparisons(condition):
                yield from self._row_conflicts(comparison)

    def _row_conflicts(self, comparison: Comparison) -> Iterator[str]:
        """A row that an event does not have: PostgreSQL would refuse the trigger."""
        rows = {comparison.row, comparison.ref.row if comparison.ref is not None else None}
        if comparison.compares_rows:
            rows = {"OLD", "NEW"}
        for row, event in (("OLD", "INSERT"), ("NEW", "DELETE")):
            if row in rows and event in self.events:
                yield (
                    f"conditions: {comparison.field!r} asks for row {row}, which {event} does not have; "
                    f"take {event} out of events ({', '.join(self.events)}), into a trigger of its own"
                )
