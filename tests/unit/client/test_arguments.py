"""Invalid arguments of ``enqueue`` and ``result``: rejected before anything is sent."""

import math
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import psycopg
import pytest
from pydantic import BaseModel, field_validator
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from jobfn import EnqueueError, InvalidPayload, enqueue, enqueue_many, task
from jobfn.client import SyncEnqueuedJob
from jobfn.client.statements import schema_or_default

#: Arguments are validated before the connection is used.
UNUSED: Any = None


class Invoice(BaseModel):
    """A payload; like every pydantic model, it is iterable."""

    id: int


@task("process_invoice")
async def process_invoice(payload: Invoice) -> None: ...


async def _async_numbers() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"id": "seven"}, r"process_invoice: id: .* No job was added"),
        (Invoice.model_construct(id="seven"), "id: Input should be a valid integer"),
        (None, "id: Field required"),
    ],
)
def test_payload_of_another_type_is_rejected_by_field(payload: Any, message: str) -> None:
    with pytest.raises(InvalidPayload, match=message) as raised:
        process_invoice.enqueue(UNUSED, payload)
    assert "seven" not in str(raised.value)


def test_invalid_payload_of_many_is_named_by_its_index() -> None:
    with pytest.raises(InvalidPayload) as raised:
        _ = process_invoice.enqueue_many(UNUSED, [Invoice(id=1), {"id": "x"}])  # type: ignore[list-item]
    assert "payload 1 of 2" in raised.value.__notes__[-1]


def test_unexpected_error_of_a_validator_is_reported_by_type() -> None:
    class Broken(BaseModel):
        id: int

        @field_validator("id")
        @classmethod
        def _raise(cls, _value: int) -> int:
            raise ZeroDivisionError

    @task("broken")
    def broken(payload: Broken) -> None: ...

    with pytest.raises(EnqueueError, match="raised ZeroDivisionError: no job was added"):
        broken.enqueue(UNUSED, Broken.model_construct(id=2))


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (object(), r"payload of type object is not serializable to JSON \(PydanticSerializationError\)"),
        ({"amounts": [1.0, math.nan]}, "must not contain NaN or infinity"),
        ({"amounts": [1.0, -math.inf]}, "must not contain NaN or infinity"),
    ],
)
def test_payload_that_is_not_json_is_rejected(payload: Any, message: str) -> None:
    with pytest.raises(EnqueueError, match=message):
        enqueue(UNUSED, "x", payload)


@pytest.mark.parametrize(
    ("payloads", "kind"),
    [("abc", "str"), ({"id": 1}, "dict"), (Invoice(id=1), "Invoice"), (_async_numbers(), "async_generator")],
)
@pytest.mark.parametrize(
    "call", [lambda payloads: enqueue_many(UNUSED, "x", payloads), lambda p: process_invoice.enqueue_many(UNUSED, p)]
)
def test_payloads_must_be_a_list(payloads: Any, kind: str, call: Callable[[Any], Any]) -> None:
    with pytest.raises(EnqueueError, match=f"must be a list with one payload for each job, not {kind}"):
        call(payloads)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"run_at": datetime(2040, 1, 1)}, "time zone"),  # noqa: DTZ001  - the error under test
        ({"key": ""}, "1 to 512"),
        ({"key": "k" * 10_000}, r"^key='k{99}… must be text of 1 to 512 characters"),
        ({"queue": "q" * 127}, "1 to 126"),
        ({"priority": 2**31}, "whole number"),
        ({"max_attempts": 0}, "from 1 to"),
        ({"database_id": "acme"}, "must be a UUID"),
        ({"database_id": b"5b720132-17d5-424d-9bcb-ee7b17c13d43"}, "must be a UUID"),
    ],
)
def test_invalid_option_is_rejected_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(EnqueueError, match=message):
        enqueue(UNUSED, "x", {}, **options)


@pytest.mark.parametrize(
    ("call", "function"),
    [
        (lambda **options: enqueue(UNUSED, "x", **options), "enqueue"),
        (lambda **options: enqueue_many(UNUSED, "x", [], **options), "enqueue_many"),
        (lambda **options: process_invoice.enqueue(UNUSED, Invoice(id=1), **options), "enqueue"),
        (lambda **options: process_invoice.enqueue_many(UNUSED, [], **options), "enqueue_many"),
    ],
)
def test_unknown_option_is_a_type_error(call: Callable[..., Any], function: str) -> None:
    error = rf"^{function}\(\) got an unexpected keyword argument"
    with pytest.raises(TypeError, match=f"{error} 'prioritty': did you mean 'priority'"):
        call(prioritty=1)
    first = "depends_on, entity_id, entity_type, expires_at, expires_in, ignore_failures, "
    own = first if function == "enqueue" else "expires_at, expires_in, "
    more = "max_delay, on_conflict, organization_id, " if function == "enqueue" else "on_conflict, "
    options = f"use database_id, {own}key, max_attempts, {more}priority, queue, run_at, schema, unique, unique_by$"
    with pytest.raises(TypeError, match=f"{error} 'when': {options}"):
        call(when=1)


def test_one_key_for_many_jobs_is_rejected() -> None:
    with pytest.raises(EnqueueError, match=r"key='invoice' must be a function of the payload.*only the last is kept"):
        enqueue_many(UNUSED, "x", [{}, {}], key="invoice")  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "connection",
    [
        "postgresql://localhost/shop",
        create_engine("postgresql+psycopg://"),
        create_async_engine("postgresql+asyncpg://"),
        psycopg.ClientCursor,
        asyncpg.Connection,
    ],
    ids=lambda connection: type(connection).__name__,
)
def test_unsupported_connection_error_lists_the_supported_ones(connection: Any) -> None:
    with pytest.raises(EnqueueError, match="is not a supported connection: give an asyncpg connection or pool"):
        enqueue(connection, "x")


def test_connection_that_was_not_awaited_is_rejected() -> None:
    connecting: Any = psycopg.AsyncConnection.connect("")
    with pytest.raises(EnqueueError, match=r"connect\(...\) must be awaited"):
        enqueue(connecting, "x")
    connecting.close()


@pytest.mark.parametrize("seconds", [-1, math.nan, "5", True])
def test_timeout_must_be_a_number_of_seconds(seconds: Any) -> None:
    job: SyncEnqueuedJob[Any] = SyncEnqueuedJob.create(1, UNUSED, "app_jobs", keep_result=None)
    with pytest.raises(ValueError, match="must be seconds, 0 or more, or None for no limit"):
        job.result(timeout=seconds)


def test_default_schema_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBS_SCHEMA", "other")
    assert schema_or_default(None) == "other"
    assert schema_or_default("mine") == "mine"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unique": 60}, "unique=60 must be a timedelta, 'until_started' or 'until_done'"),
        ({"unique": "done"}, "unique='done' must be a timedelta, 'until_started' or 'until_done'"),
        (
            {"unique": timedelta(0)},
            "unique=datetime.timedelta(0) must be a timedelta of 1 millisecond to 366 days",
        ),
        (
            {"unique": "until_done", "on_conflict": "ignore"},
            "on_conflict='ignore' must be 'keep', 'replace' or 'error'",
        ),
        (
            {"unique": "until_done", "unique_by": "id"},
            "unique_by='id' must be a list of fields of the payload, such as ['customer']",
        ),
        (
            {"unique": "until_done", "unique_by": [""]},
            "unique_by=[''] must be a list of fields of the payload, such as ['customer']",
        ),
        ({"unique": "until_done", "unique_by": ["x"] * 33}, "unique_by has 33 fields: use at most 32"),
        ({"unique_by": ["id"]}, "unique_by needs unique: set it to a timedelta, 'until_started' or 'until_done'"),
        ({"on_conflict": "keep"}, "on_conflict needs unique: set it to a timedelta, 'until_started' or 'until_done'"),
        (
            {"unique": "until_done", "on_conflict": "replace", "depends_on": [1]},
            "on_conflict='replace' and depends_on exclude each other: leave one of them out",
        ),
        ({"max_delay": 60}, "max_delay=60 must be a timedelta above 0"),
        (
            {"max_delay": timedelta(1), "key": "k"},
            "max_delay needs key and run_at: it limits how long a job with a key can be put off",
        ),
        (
            {"max_delay": timedelta(1), "key": "k", "run_at": datetime.now(UTC), "unique": "until_done"},
            "max_delay excludes unique and depends_on: leave one of them out",
        ),
    ],
)
def test_invalid_options_of_unique_jobs(options: Any, message: str) -> None:
    with pytest.raises(EnqueueError) as raised:
        enqueue(UNUSED, "x", {}, **options)
    assert str(raised.value) == message
