"""Fields of a payload that were not set are not sent, unless the function would then receive another value."""

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel, Field

from jobfn.client.validation import to_json
from jobfn.payloads import Meta, RowChange, RowId


class Address(BaseModel):
    street: str
    country: str = "NO"


class Order(BaseModel):
    id: int
    address: Address | None = None
    note: str | None = Field(default=None, alias="the note")


class Message(BaseModel):
    text: str
    id: UUID = Field(default_factory=uuid4)
    channel: str = "mail"


@dataclass
class Point:
    x: int
    y: int = 0


META = Meta(table_schema="public", table="invoices", event="INSERT")


@pytest.mark.parametrize(
    ("payload", "sent"),
    [
        (RowId(id="8"), {"id": "8"}),
        (RowId(id=8, meta=None), {"id": 8, "_meta": None}),
        (RowId(id=8, meta=META), {"id": 8, "_meta": {"schema": "public", "table": "invoices", "event": "INSERT"}}),
        (Order(id=1), {"id": 1}),
        (Order.model_validate({"id": 1, "the note": "x"}), {"id": 1, "the note": "x"}),
        (Order(id=1, address=Address(street="Main")), {"id": 1, "address": {"street": "Main"}}),
        (RowChange[Address](new=Address(street="a"), old=Address(street="b", country="SE")), {
            "new": {"street": "a"}, "old": {"street": "b", "country": "SE"},
        }),
        (Point(1), {"x": 1, "y": 0}),
        ({"order": Order(id=1)}, {"order": {"id": 1, "address": None, "the note": None}}),
    ],
)  # fmt: skip
def test_only_fields_that_are_set_are_sent(payload: Any, sent: Any) -> None:
    assert json.loads(to_json(payload)) == sent


def test_value_of_a_default_factory_is_sent() -> None:
    """The function would make another one."""
    message = Message(text="hi")
    assert json.loads(to_json(message)) == {"text": "hi", "id": str(message.id), "channel": "mail"}
