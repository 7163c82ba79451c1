"""A job by hand: the form of a task's schema, and what is wrong said at its field."""

import json
import re
from datetime import date
from typing import Literal

import asyncpg
import pytest
from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jobfn.function.app import create_app
from jobfn.function.task import task
from support.dashboard import OpenSite, Site
from support.fixtures import Serve
from support.jobs import TENANT, Jobs


class Address(BaseModel):
    street: str
    country: Literal["FR", "DE"] = "FR"


class Invoice(BaseModel):
    id: int = Field(ge=1, description="The invoice's number.")
    customer: str = Field(min_length=2)
    total: float | None = None
    due: date | None = None
    express: bool = False
    tags: list[str] = []
    address: Address


@task("process_invoice")
async def process_invoice(payload: Invoice) -> None:
    """Charge an invoice."""


@task("free")
async def free(payload: dict[str, object]) -> None:
    """Take anything."""


@task("cleanup")
async def cleanup(payload: None) -> None:
    """Take nothing."""


GOOD = {
    "task": "process_invoice",
    "payload/id": "7",
    "payload/customer": "Ada",
    "payload/total": "12.50",
    "payload/express": "true",
    "payload/tags": "new\nfragile\n",
    "payload/address/street": "Rue 1",
    "payload/address/country": '"DE"',
}


@pytest.fixture
async def shop(open_site: OpenSite, serve: Serve) -> Site:
    """A dashboard that knows a function app."""
    return await open_site(functions=await serve(create_app(tasks=[process_invoice, free, cleanup])))


def problem_at(html: str, field: str) -> str | None:
    """What the page says is wrong with an input."""
    found = re.search(rf'id="{re.escape(field)}-problem">([^<]*)<', html)
    return found.group(1) if found else None


async def test_tasks_are_listed_with_what_they_do(shop: Site, jobs: Jobs) -> None:
    """Those of the functions, and those that only the database knows."""
    await jobs.add("forgotten")
    html = (await shop.get("/enqueue")).text
    for text in ("process_invoice", "Charge an invoice.", "cleanup", "forgotten", "no function lists it"):
        assert text in html


async def test_a_form_has_the_schemas_fields(shop: Site) -> None:
    """Each by its kind, with its default and its description; groups in groups."""
    html = (await shop.get("/enqueue?task=process_invoice")).text
    assert 'name="payload/id"' in html
    assert 'inputmode="numeric"' in html
    assert "The invoice&#39;s number." in html
    assert re.search(r'<select[^>]*name="payload/address/country"', html)
    assert "<legend>address</legend>" in html
    assert re.search(r'<input type="checkbox" value="true"[^>]*name="payload/express"', html)
    assert re.search(r"<textarea[^>]*name=\"payload/tags\"", html)


async def test_a_filled_in_form_becomes_a_job(shop: Site, connection: "asyncpg.Connection[object]") -> None:
    """With the payload's own types, and what was said of queue, key, priority, attempts and delay."""
    answer = await shop.post(
        "/enqueue",
        GOOD
        | {"queue": "q", "key": "k", "priority": "-3", "max_attempts": "4", "delay": "2", "delay_unit": "h"}
        | {"database_id": TENANT},
    )
    assert answer.status_code == 303, answer.text
    number = int(answer.headers["Location"].removeprefix("/jobs/"))
    row = await connection.fetchrow(
        "select *, run_at - now() > interval '119 minutes' as is_later from app_jobs.jobs where id = $1", number
    )
    assert row is not None
    assert json.loads(row["payload"]) == {
        "id": 7,
        "customer": "Ada",
        "total": 12.5,
        "express": True,
        "tags": ["new", "fragile"],
        "address": {"street": "Rue 1", "country": "DE"},
    }
    assert (row["queue_name"], row["key"], row["priority"], row["max_attempts"]) == ("q", "k", -3, 4)
    assert (str(row["database_id"]), row["is_later"]) == (TENANT, True)


async def test_what_is_wrong_is_said_at_its_field_and_nothing_is_lost(shop: Site, jobs: Jobs) -> None:
    """All at once; what was typed in stands there still; no job is added."""
    form = GOOD | {
        "payload/id": "zero",
        "payload/customer": "A",
        "payload/total": "much",
        "payload/address/street": "",
        "payload/due": "tomorrow",
        "priority": "high",
        "max_attempts": "0",
        "delay": "-1",
        "database_id": "me",
    }
    answer = await shop.post("/enqueue", form)
    assert answer.status_code == 422
    assert problem_at(answer.text, "payload/id") == "must be a whole number"
    assert problem_at(answer.text, "payload/customer") == "must have 2 characters or more"
    assert problem_at(answer.text, "payload/total") == "must be a number"
    assert problem_at(answer.text, "payload/address/street") == "is required"
    assert problem_at(answer.text, "payload/due") == "must be a date"
    assert problem_at(answer.text, "payload/address/country") is None
    assert problem_at(answer.text, "priority") == "must be a whole number"
    assert problem_at(answer.text, "max_attempts") == "must be a whole number, 1 or more"
    assert "ten years" in (problem_at(answer.text, "delay") or "")
    assert problem_at(answer.text, "database_id") == "must be a UUID"
    assert 'value="zero"' in answer.text
    assert "fragile" in answer.text
    assert await jobs.count() == 0


async def test_a_payload_can_be_written_as_json(shop: Site, jobs: Jobs) -> None:
    """It is checked by the same schema; where there is no form, it is the only way."""
    page = (await shop.get("/enqueue?task=process_invoice&as=json")).text
    assert "As a form" in page
    form = {"task": "process_invoice", "as": "json", "payload": '{"id": 0, "customer": "Ada"}'}
    answer = await shop.post("/enqueue", form)
    said = problem_at(answer.text, "payload") or ""
    assert "id: must be 1 or more" in said
    assert "address: is required" in said
    broken = await shop.post("/enqueue", form | {"payload": "{"})
    assert "That is no JSON" in (problem_at(broken.text, "payload") or "")
    assert "[1, 2]" in (await shop.post("/enqueue", {"task": "free", "as": "json", "payload": "[1, 2]"})).text
    assert await jobs.count() == 0
    added = await shop.post("/enqueue", {"task": "free", "as": "json", "payload": '{"a": [1]}'})
    assert added.status_code == 303


async def test_a_task_that_takes_nothing_has_no_fields(shop: Site) -> None:
    """One button."""
    assert "This task takes none." in (await shop.get("/enqueue?task=cleanup")).text
    assert (await shop.post("/enqueue", {"task": "cleanup"})).status_code == 303


async def test_a_task_that_nobody_lists_is_written_as_json(shop: Site, open_site: OpenSite) -> None:
    """The page says why there is no form: who was asked, and what came of it."""
    assert "answered 404" in (await shop.get("/enqueue?task=unknown")).text
    added = await shop.post("/enqueue", {"task": "unknown", "payload": "{}"})
    assert added.status_code == 303
    alone = await open_site(functions="http://127.0.0.1:9")
    assert "does not answer" in (await alone.get("/enqueue?task=unknown")).text
    assert "does not answer" in (await alone.get("/enqueue")).text


async def test_a_function_that_is_no_jobfn_is_told_apart(open_site: OpenSite, serve: Serve) -> None:
    """A page of its own, an endless one, a failing one: no form, and no harm."""

    async def page(request: object) -> Response:
        return JSONResponse({"hello": "world"})

    other = await open_site(functions=await serve(Starlette(routes=[Route("/", page)])))
    assert "lists no tasks as jobfn does" in (await other.get("/enqueue")).text

    async def endless(request: object) -> Response:
        return Response(b"x" * (5 * 1024 * 1024))

    large = await open_site(functions=await serve(Starlette(routes=[Route("/", endless)])))
    assert "more than a list of tasks" in (await large.get("/enqueue")).text


@pytest.mark.parametrize("name", ["", "x" * 127])
async def test_a_name_that_no_task_can_have(shop: Site, jobs: Jobs, name: str) -> None:
    """Refused before it reaches the database."""
    answer = await shop.post("/enqueue", {"task": name, "payload": "{}"})
    assert (answer.status_code, await jobs.count()) == (422, 0)


async def test_what_the_database_refuses_is_told(shop: Site, jobs: Jobs) -> None:
    """A payload that is JSON for Python and none for PostgreSQL."""
    form = {"task": "free", "as": "json", "payload": '{"a": 1}', "queue": "q" * 127, "key": "k" * 513}
    answer = await shop.post("/enqueue", form)
    assert problem_at(answer.text, "queue") == "has at most 126 characters"
    assert problem_at(answer.text, "key") == "has at most 512 characters"
    await jobs.connection.execute("alter table app_jobs.jobs add constraint closed check (task_identifier <> 'free')")
    refused = await shop.post("/enqueue", {"task": "free", "as": "json", "payload": "{}"})
    assert (refused.status_code, "the job was not added" in refused.text) == (422, True)
