"""Payloads of the send_email function, delivery to the real app. No mail is sent."""

import functools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from jobfn.function.loading import load_module
from jobfn.testing import DeliveryResult, FunctionUnderTest

functions = load_module(str(Path(__file__).with_name("functions.py")))

HELLO = {"to": "ada@example.com", "subject": "Hello", "text": "It works."}


@pytest.fixture
def post(jobfn_app: Callable[..., FunctionUnderTest]) -> Callable[[Any], Awaitable[DeliveryResult]]:
    """Deliver a payload to the function app, with a worker's headers."""
    return functools.partial(jobfn_app(functions).deliver, "send_email")


@pytest.mark.parametrize(
    ("change", "field_name", "problem"),
    [
        ({"to": None}, "to", "valid array"),
        ({"to": []}, "to", "at least 1"),
        ({"to": "nobody"}, "to.0", "not a mail address"),
        ({"to": ["ada@example.com", "bob@"]}, "to.1", "not a mail address"),
        ({"to": "ada@example.com, bob@example.com"}, "to.0", "list with one address each"),
        ({"to": "all: ada@example.com, bob@example.com;"}, "to.0", "list with one address each"),
        ({"to": "all: ada@example.com;"}, "to.0", "not a mail address"),
        ({"to": "ada@bücher.example"}, "to.0", "xn--"),
        ({"to": "ada@example.com\nBcc: eve@example.com"}, "to.0", "line break"),
        ({"to": "=?utf-8?q?=0ABcc?= <ada@example.com>"}, "to.0", "not a mail address"),
        ({"from": "ada@example.com\r\nBcc: eve@example.com"}, "from", "line break"),
        ({"replyTo": "ada@example.com\nBcc: eve@example.com"}, "replyTo", "line break"),
        ({"subject": "Hello\r\nBcc: eve@example.com"}, "subject", "line break"),
        ({"subject": ""}, "subject", "at least 1"),
        ({"subject": None}, "subject", "valid string"),
        ({"text": ""}, "(payload)", "one of html and text"),
        ({"text": 7}, "text", "valid string"),
    ],
)
async def test_invalid_payload_is_refused_with_its_field_and_without_values(
    post: Callable[[Any], Awaitable[DeliveryResult]], change: dict[str, Any], field_name: str, problem: str
) -> None:
    delivery = await post({**HELLO, **change})

    assert delivery.status_code == 422
    assert delivery.headers["X-Job-Error"] == "true"
    (detail,) = delivery.result["details"]
    assert detail["field"] == field_name
    assert problem in detail["problem"]
    assert "example" not in str((delivery.result, delivery.report))


@pytest.mark.parametrize("missing", ["to", "subject"])
async def test_recipient_and_subject_are_required(
    post: Callable[[Any], Awaitable[DeliveryResult]], missing: str
) -> None:
    delivery = await post({key: value for key, value in HELLO.items() if key != missing})

    assert delivery.status_code == 422
    assert [detail["field"] for detail in delivery.result["details"]] == [missing]


async def test_schema_of_to_is_an_address_or_a_list() -> None:
    schema = functions.send_email.payload_schema()
    assert schema["required"] == ["to", "subject"]
    assert {choice["type"] for choice in schema["properties"]["to"]["anyOf"]} == {"string", "array"}
    assert set(schema["properties"]) == {"to", "subject", "html", "text", "from", "replyTo"}
