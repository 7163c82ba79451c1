"""The handler as the function it is, and the app as a worker sees it."""

import asyncio
from decimal import Decimal

import httpx
import pytest

import functions
from jobfn import JobContext, PermanentError, create_app


def deliver(payload: object) -> httpx.Response:
    """Post a job to the app, as a worker does."""

    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(functions))
        async with httpx.AsyncClient(transport=transport, base_url="http://function") as client:
            return await client.post("/template_task", json=payload)

    return asyncio.run(post())


def test_an_order_is_handled() -> None:
    """A handler is a plain function: call it."""
    order = functions.Order(id=1, total=Decimal("9.90"))
    result = asyncio.run(functions.handle_order(order, JobContext(task="template_task")))
    assert result == {"order": 1, "total": "9.90"}


def test_an_order_for_nothing_fails_for_good() -> None:
    """PermanentError: trying again would not help."""
    order = functions.Order(id=1, total=Decimal(0))
    with pytest.raises(PermanentError):
        asyncio.run(functions.handle_order(order, JobContext(task="template_task")))


def test_a_delivery_is_answered_with_the_result() -> None:
    """What a worker posts, and what it gets."""
    response = deliver({"id": 1, "total": "9.90"})
    assert (response.status_code, response.json()) == (200, {"order": 1, "total": "9.90"})


def test_a_payload_that_does_not_fit_is_refused_by_its_field() -> None:
    """422, before the handler runs."""
    response = deliver({"id": "first"})
    assert response.status_code == 422
    assert "total" in response.json()["message"]
