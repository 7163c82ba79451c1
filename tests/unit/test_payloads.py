import json

import pytest
from pydantic import BaseModel, ValidationError

from jobfn.payloads import Meta, RowChange, RowId


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
