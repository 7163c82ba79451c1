import json
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from jobfn.payloads import Meta, Row, RowChange, RowId


class Contact(BaseModel):
    id: int
    name: str


META = {"schema": "app", "table": "contacts", "event": "UPDATE"}


@pytest.mark.parametrize("key", ["5b720132-17d5-424d-9bcb-ee7b17c13d43", "text", 7, 2**62])
def test_row_id_keeps_its_type_and_ignores_other_keys(key: str | int) -> None:
    payload = RowId.model_validate_json(json.dumps({"id": key, "old": {"id": 1}}))
    assert payload.id == key
    assert type(payload.id) is type(key)
    assert payload.meta is None


def test_meta_is_accepted_by_wire_name_and_by_field_name() -> None:
    payload = RowId.model_validate({"id": 1, "_meta": META})
    assert payload.meta == Meta(table_schema="app", table="contacts", event="UPDATE")
    assert payload == RowId(id=1, meta=payload.meta)
    assert payload.model_dump(by_alias=True) == {"id": 1, "_meta": META}


def test_row_change_validates_both_rows() -> None:
    body = {"new": {"id": 1, "name": "b"}, "old": {"id": 1, "name": "a"}, "_meta": META}
    payload = RowChange[Contact].model_validate(body)
    assert (payload.new.name, payload.old.name) == ("b", "a")
    assert payload.meta is not None
    assert payload.meta.event == "UPDATE"


@pytest.mark.parametrize("body", [{}, {"id": None}, {"id": {}}, {"id": 1, "_meta": {**META, "event": "TRUNCATE"}}])
def test_row_id_rejects_invalid_bodies(body: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RowId.model_validate(body)


class StrictRow(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    id: UUID
    at: datetime


ROW = {"id": "aaaaaaaa-0000-4000-8000-000000000000", "at": "2030-01-31T09:00:00Z"}


@pytest.mark.parametrize("meta", [None, META])
def test_row_and_meta_are_separated(meta: dict[str, str] | None) -> None:
    payload = ROW if meta is None else ROW | {"_meta": meta}
    parsed = TypeAdapter(Row[StrictRow]).validate_json(json.dumps(payload))
    assert parsed.row == StrictRow(id=UUID(ROW["id"]), at=datetime.fromisoformat(ROW["at"]))
    assert parsed.meta == (None if meta is None else Meta(table_schema="app", table="contacts", event="UPDATE"))


def test_row_accepts_any_annotation() -> None:
    parsed = TypeAdapter(Row[dict[str, Any]]).validate_json('{"row": 1, "meta": 2}')
    assert (parsed.row, parsed.meta) == ({"row": 1, "meta": 2}, None)


def test_row_can_be_constructed_in_code() -> None:
    row = StrictRow(id=UUID(ROW["id"]), at=datetime.fromisoformat(ROW["at"]))
    assert Row[StrictRow](row=row).row == row


@pytest.mark.parametrize(
    ("payload", "location"),
    [
        ({}, ("id",)),
        (ROW | {"more": 1}, ("more",)),
        (ROW | {"_meta": {"schema": 1}}, ("_meta", "schema")),
        ([], ()),
    ],
)
def test_error_location_is_the_sent_field(payload: Any, location: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(Row[StrictRow]).validate_json(json.dumps(payload))
    assert raised.value.errors()[0]["loc"] == location


def test_schema_describes_the_sent_payload() -> None:
    schema = TypeAdapter(Row[StrictRow]).json_schema()
    assert set(schema["properties"]) == {"id", "at", "_meta"}
    assert schema["required"] == ["id", "at"]
    assert schema["additionalProperties"] is False
