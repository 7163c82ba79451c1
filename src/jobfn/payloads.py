"""The shapes that database triggers send, for use as payload annotations (contract, section 4).

::

    @task("process_invoice")
    async def process_invoice(payload: RowId) -> None: ...

    @task("sync_contact")
    async def sync_contact(payload: RowChange[Contact]) -> None: ...   # row strategy with include_old
"""

from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")

_META = "With include_meta: where it happened"


class Meta(BaseModel):
    """Where a change happened: what ``include_meta`` adds as ``_meta``."""

    table_schema: str = Field(
        validation_alias="schema", serialization_alias="schema", description="The schema of the table, such as public"
    )
    table: str = Field(description="The table's name")
    event: Literal["INSERT", "UPDATE", "DELETE"] = Field(description="What happened to the row")

    model_config = ConfigDict(populate_by_name=True)


class RowId(BaseModel):
    """The ``row_id`` strategy, a trigger's default: ``{"id": ...}``. The function fetches the row itself."""

    id: str | int = Field(description="The row's primary key: a UUID or text as str, a number as int")
    # two aliases instead of one, so that type checkers see the field's own name
    meta: Meta | None = Field(default=None, validation_alias="_meta", serialization_alias="_meta", description=_META)

    model_config = ConfigDict(populate_by_name=True, coerce_numbers_to_str=False)


class RowChange(BaseModel, Generic[T]):
    """The ``row`` strategy with ``include_old``, on UPDATE: ``{"new": {...}, "old": {...}}``."""

    new: T = Field(description="The row after the change")
    old: T = Field(description="The row before the change")
    meta: Meta | None = Field(default=None, validation_alias="_meta", serialization_alias="_meta", description=_META)

    model_config = ConfigDict(populate_by_name=True)
