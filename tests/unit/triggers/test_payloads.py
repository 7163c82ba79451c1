"""Row, the shape of a whole row: the columns, and beside them where it happened."""

import json
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from jobfn.payloads import Meta, Row

ID = "aaaaaaaa-0000-4000-8000-000000000000"
META = {"schema": "public", "table": "t", "event": "INSERT"}


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    id: UUID
    at: datetime


SENT = {"id": ID, "at": "2030-01-31T09:00:00Z"}


@pytest.mark.parametrize("meta", [None, META])
def test_the_columns_and_the_meta_come_apart(meta: dict[str, str] | None) -> None:
    """A strict model that forbids other fields sees its columns alone, read as JSON."""
    sent = SENT if meta is None else SENT | {"_meta": meta}
    found = TypeAdapter(Row[Strict]).validate_json(json.dumps(sent))
    assert found.row == Strict(id=UUID(ID), at=datetime.fromisoformat(SENT["at"]))
    assert found.meta == (None if meta is None else Meta(table_schema="public", table="t", event="INSERT"))


def test_any_annotation_of_a_row_will_do() -> None:
    """A plain dict too; a column called row is a column."""
    found = TypeAdapter(Row[dict[str, Any]]).validate_json('{"row": 1, "meta": 2}')
    assert (found.row, found.meta) == ({"row": 1, "meta": 2}, None)


def test_it_is_made_in_code_like_any_model() -> None:
    """As a test of a handler does."""
    row = Strict(id=UUID(ID), at=datetime.fromisoformat(SENT["at"]))
    assert Row[Strict](row=row).row == row


@pytest.mark.parametrize(
    ("sent", "place"),
    [
        ({}, ("id",)),
        (SENT | {"more": 1}, ("more",)),
        (SENT | {"_meta": {"schema": 1}}, ("_meta", "schema")),
        ([], ()),
    ],
)
def test_an_error_names_the_field_as_it_was_sent(sent: Any, place: tuple[str, ...]) -> None:
    """Not where the model keeps it."""
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(Row[Strict]).validate_json(json.dumps(sent))
    assert refused.value.errors()[0]["loc"] == place


def test_its_schema_is_what_a_caller_sends() -> None:
    """The properties of the row, and _meta, which may be left out."""
    schema = TypeAdapter(Row[Strict]).json_schema()
    assert set(schema["properties"]) == {"id", "at", "_meta"}
    assert schema["required"] == ["id", "at"]
    assert schema["additionalProperties"] is False
