"""``Row``: the payload of a whole row."""

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
def test_row_and_meta_are_separated(meta: dict[str, str] | None) -> None:
    payload = SENT if meta is None else SENT | {"_meta": meta}
    parsed = TypeAdapter(Row[Strict]).validate_json(json.dumps(payload))
    assert parsed.row == Strict(id=UUID(ID), at=datetime.fromisoformat(SENT["at"]))
    assert parsed.meta == (None if meta is None else Meta(table_schema="public", table="t", event="INSERT"))


def test_row_accepts_any_annotation() -> None:
    parsed = TypeAdapter(Row[dict[str, Any]]).validate_json('{"row": 1, "meta": 2}')
    assert (parsed.row, parsed.meta) == ({"row": 1, "meta": 2}, None)


def test_row_can_be_constructed_in_code() -> None:
    row = Strict(id=UUID(ID), at=datetime.fromisoformat(SENT["at"]))
    assert Row[Strict](row=row).row == row


@pytest.mark.parametrize(
    ("payload", "location"),
    [
        ({}, ("id",)),
        (SENT | {"more": 1}, ("more",)),
        (SENT | {"_meta": {"schema": 1}}, ("_meta", "schema")),
        ([], ()),
    ],
)
def test_error_location_is_the_sent_field(payload: Any, location: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(Row[Strict]).validate_json(json.dumps(payload))
    assert raised.value.errors()[0]["loc"] == location


def test_schema_describes_the_sent_payload() -> None:
    schema = TypeAdapter(Row[Strict]).json_schema()
    assert set(schema["properties"]) == {"id", "at", "_meta"}
    assert schema["required"] == ["id", "at"]
    assert schema["additionalProperties"] is False
