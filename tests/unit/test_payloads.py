"""The shapes that triggers send."""

import json

import pytest
from pydantic import BaseModel, ValidationError

from jobfn.payloads import Meta, RowChange, RowId


class Contact(BaseModel):
    id: int
    name: str


META = {"schema": "app", "table": "contacts", "event": "UPDATE"}


@pytest.mark.parametrize("key", ["5b720132-17d5-424d-9bcb-ee7b17c13d43", "text", 7, 2**62])
def test_a_row_id_keeps_its_type(key: str | int) -> None:
    """Text stays text, numbers stay numbers; what else a trigger adds is passed over."""
    found = RowId.model_validate_json(json.dumps({"id": key, "old": {"id": 1}}))
    assert found.id == key
    assert type(found.id) is type(key)
    assert found.meta is None


def test_meta_is_read_under_its_wire_names() -> None:
    """``_meta`` and ``schema`` on the wire, ``meta`` and ``table_schema`` in Python; both build one."""
    found = RowId.model_validate({"id": 1, "_meta": META})
    assert found.meta == Meta(table_schema="app", table="contacts", event="UPDATE")
    assert found == RowId(id=1, meta=found.meta)
    assert found.model_dump(by_alias=True) == {"id": 1, "_meta": META}


def test_a_change_holds_both_rows() -> None:
    """New and old, of the type that is asked for."""
    body = {"new": {"id": 1, "name": "b"}, "old": {"id": 1, "name": "a"}, "_meta": META}
    found = RowChange[Contact].model_validate(body)
    assert (found.new.name, found.old.name) == ("b", "a")
    assert found.meta is not None
    assert found.meta.event == "UPDATE"


@pytest.mark.parametrize("body", [{}, {"id": None}, {"id": {}}, {"id": 1, "_meta": {**META, "event": "TRUNCATE"}}])
def test_what_is_no_row_id(body: dict[str, object]) -> None:
    """The id is required, and meta is what triggers send."""
    with pytest.raises(ValidationError):
        RowId.model_validate(body)
