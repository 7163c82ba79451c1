"""The shapes that database triggers send, for use as payload annotations (contract, section 4).

::

    @task("process_invoice")
    async def process_invoice(payload: RowId) -> None: ...             # the default strategy, row_id

    @task("audit_invoice")
    async def audit_invoice(payload: Row[Invoice]) -> None: ...        # row: payload.row is the Invoice

    @task("sync_contact")
    async def sync_contact(payload: RowChange[Contact]) -> None: ...   # row with include_old, on UPDATE

``fields`` and ``custom`` send what a model of your own describes. ``jobfn triggers check`` says whether a
trigger and an annotation fit.
"""

import functools
from collections.abc import Mapping
from typing import Any, Generic, Literal, Self, TypeVar

import pydantic_core
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    TypeAdapter,
    ValidationInfo,
    model_validator,
)

T = TypeVar("T")

_KEY = "_meta"
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


class Row(BaseModel, Generic[T]):
    """The ``row`` strategy: the whole row, and with ``include_meta`` a ``_meta`` among its columns.

    The columns arrive side by side with ``_meta``; ``T`` sees the columns alone, so it may forbid other fields.
    """

    row: T = Field(description="The row: after the change, or as it was before a DELETE")
    meta: Meta | None = Field(default=None, validation_alias="_meta", serialization_alias="_meta", description=_META)

    model_config = ConfigDict(populate_by_name=True)

    @model_validator(mode="wrap")
    @classmethod
    def _split(cls, value: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        """Take ``_meta`` out of the columns. ``Row(row=..., meta=...)`` is taken as it is."""
        if not isinstance(value, dict) or (info.mode == "python" and _names_fields(value)):
            return handler(value)
        columns: Any = {name: column for name, column in value.items() if name != _KEY}
        if info.mode == "json":
            # What a validator is handed is no JSON any more, and a strict T takes a date from JSON only.
            columns = _columns_of(cls).validate_json(pydantic_core.to_json(columns))
        return handler({"row": columns, _KEY: value.get(_KEY)})

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: pydantic_core.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """What a caller sends: the properties of ``T``, and ``_meta``."""
        reference = handler(core_schema)
        own = handler.resolve_ref_schema(reference)
        fields = own["properties"]
        flat = dict(handler.resolve_ref_schema(fields["row"]))
        flat["properties"] = {**flat.get("properties", {}), _KEY: fields[_KEY]}
        own.clear()
        own.update(flat)
        return reference


class RowChange(BaseModel, Generic[T]):
    """The ``row`` strategy with ``include_old``, on UPDATE: ``{"new": {...}, "old": {...}}``."""

    new: T = Field(description="The row after the change")
    old: T = Field(description="The row before the change")
    meta: Meta | None = Field(default=None, validation_alias="_meta", serialization_alias="_meta", description=_META)

    model_config = ConfigDict(populate_by_name=True)


@functools.cache
def _columns_of(model: type[Row[Any]]) -> TypeAdapter[Any]:
    annotation: Any = model.model_fields["row"].annotation
    return TypeAdapter(annotation)


def _names_fields(value: Mapping[str, Any]) -> bool:
    return "row" in value and value.keys() <= {"row", "meta", _KEY}
