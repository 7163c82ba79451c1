"""Payloads that database triggers send, for use as annotations (contract, section 4).

::

    @task("process_invoice")
    async def process_invoice(payload: RowId) -> None: ...             # row_id, the default strategy

    @task("audit_invoice")
    async def audit_invoice(payload: Row[Invoice]) -> None: ...        # row: payload.row is the Invoice

    @task("sync_contact")
    async def sync_contact(payload: RowChange[Contact]) -> None: ...   # row with include_old, on UPDATE

Define your own model for the strategies ``fields`` and ``custom``. ``jobfn triggers check`` compares triggers with the
annotations of their tasks.
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
_META = "Table and event; only with include_meta"


class Meta(BaseModel):
    """Table and event of a change, which ``include_meta`` adds as ``_meta``."""

    table_schema: str = Field(
        validation_alias="schema", serialization_alias="schema", description="Schema of the table, for example public"
    )
    table: str = Field(description="Name of the table")
    event: Literal["INSERT", "UPDATE", "DELETE"] = Field(description="Event that fired the trigger")

    model_config = ConfigDict(populate_by_name=True)


class RowId(BaseModel):
    """Payload of the default strategy ``row_id``: ``{"id": ...}``. The function fetches the row itself."""

    id: str | int = Field(description="Primary key of the row: str for UUID and text, int for numbers")
    # two aliases instead of one, so that type checkers accept the field's name as a keyword
    meta: Meta | None = Field(default=None, validation_alias="_meta", serialization_alias="_meta", description=_META)

    model_config = ConfigDict(populate_by_name=True, coerce_numbers_to_str=False)


class Row(BaseModel, Generic[T]):
    """Payload of the strategy ``row``: the whole row, and ``_meta`` with ``include_meta``.

    ``_meta`` is a key next to the columns. It is removed before ``T`` is validated, so ``T`` may forbid extra fields.
    """

    row: T = Field(description="The row after the change, or before a DELETE")
    meta: Meta | None = Field(default=None, validation_alias="_meta", serialization_alias="_meta", description=_META)

    model_config = ConfigDict(populate_by_name=True)

    @model_validator(mode="wrap")
    @classmethod
    def _split(cls, value: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        """Separate ``_meta`` from the columns. ``Row(row=..., meta=...)`` is left unchanged."""
        if not isinstance(value, dict) or (info.mode == "python" and _has_field_names(value)):
            return handler(value)
        columns: Any = {name: column for name, column in value.items() if name != _KEY}
        if info.mode == "json":
            # A strict T accepts a date only from JSON, and value is already parsed.
            columns = _columns_of(cls).validate_json(pydantic_core.to_json(columns))
        return handler({"row": columns, _KEY: value.get(_KEY)})

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: pydantic_core.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Return the schema of the wire format: the properties of ``T``, and ``_meta``."""
        reference = handler(core_schema)
        own = handler.resolve_ref_schema(reference)
        fields = own["properties"]
        flat = dict(handler.resolve_ref_schema(fields["row"]))
        flat["properties"] = {**flat.get("properties", {}), _KEY: fields[_KEY]}
        own.clear()
        own.update(flat)
        return reference


class RowChange(BaseModel, Generic[T]):
    """Payload of the strategy ``row`` with ``include_old``, on UPDATE: ``{"new": {...}, "old": {...}}``."""

    new: T = Field(description="The row after the change")
    old: T = Field(description="The row before the change")
    meta: Meta | None = Field(default=None, validation_alias="_meta", serialization_alias="_meta", description=_META)

    model_config = ConfigDict(populate_by_name=True)


@functools.cache
def _columns_of(model: type[Row[Any]]) -> TypeAdapter[Any]:
    annotation: Any = model.model_fields["row"].annotation
    return TypeAdapter(annotation)


def _has_field_names(value: Mapping[str, Any]) -> bool:
    return "row" in value and value.keys() <= {"row", "meta", _KEY}
