"""The enqueue pages: forms, the JSON editor and validation errors."""

import html
import json
import re
from datetime import date, timedelta
from typing import Literal

import asyncpg
import pytest
from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jobfn.function.app import create_app
from jobfn.function.task import task
from support.dashboard import OpenSite, Site
from support.fixtures import Serve
from support.jobs import TENANT, Jobs


class Invoice(BaseModel):
    id: int = Field(ge=1, description="The invoice's number.")
    customer: str = Field(min_length=2)
    total: float | None = None
    due: date | None = None
    country: Literal["FR", "DE"] = "FR"
    express: bool = False


class Address(BaseModel):
    street: str
    city: str = "Paris"


class Order(BaseModel):
    id: int = Field(ge=1)
    tags: list[str]
    address: Address


@task("process_invoice")
async def process_invoice(payload: Invoice) -> None:
    """Charge an invoice."""


@task("ship_order")
async def ship_order(payload: Order) -> None:
    """Ship an order."""


@task("cleanup")
async def cleanup(payload: None) -> None:
    """Delete old files."""


VALID_FORM = {
    "task": "process_invoice",
    "payload/id": "7",
    "payload/customer": "Ada",
    "payload/total": "12.50",
    "payload/country": '"DE"',
    "payload/express": "true",
}


@pytest.fixture
async def shop(open_site: OpenSite, serve: Serve) -> Site:
    """A dashboard that discovers the tasks above."""
    return await open_site(functions=await serve(create_app(tasks=[process_invoice, ship_order, cleanup])))


def problem_at(text: str, name: str) -> str | None:
    """Return the validation error beside an input."""
    match = re.search(rf'id="{re.escape(name)}-problem">([^<]*)<', text)
    return html.unescape(match.group(1)) if match else None


def editor_text(text: str) -> str:
    """Return the text of the JSON editor."""
    match = re.search(r'<textarea id="payload"[^>]*>([^<]*)</textarea>', text)
    assert match is not None
    return html.unescape(match.group(1))


async def test_task_list_has_listed_and_unlisted_tasks(shop: Site, jobs: Jobs) -> None:
    await jobs.add("forgotten")
    page = (await shop.get("/enqueue")).text
    for text in ("process_invoice", "Charge an invoice.", "cleanup", "forgotten", "not listed by a function app"):
        assert text in page


async def test_form_has_the_fields_of_the_schema(shop: Site) -> None:
    page = (await shop.get("/enqueue?task=process_invoice")).text
    assert 'name="payload/id"' in page
    assert 'inputmode="decimal"' in page
    assert "The invoice&#39;s number." in page
    assert "For example 2026-01-31." in page
    assert re.search(r'<select[^>]*name="payload/country"', page)
    assert re.search(r'<input type="checkbox" value="true"[^>]*name="payload/express"', page)


async def test_submitted_form_enqueues_a_job(shop: Site, connection: "asyncpg.Connection[object]") -> None:
    response = await shop.post(
        "/enqueue",
        VALID_FORM
        | {"queue": "q", "key": "k", "priority": "-3", "max_attempts": "4", "delay": "2", "delay_unit": "h"}
        | {"database_id": TENANT, "expiry": "3", "expiry_unit": "h"},
    )
    assert response.status_code == 303, response.text
    job_id = int(response.headers["Location"].removeprefix("/jobs/"))
    row = await connection.fetchrow(
        "select *, run_at - now() > interval '119 minutes' as is_later, expires_at - run_at as margin "
        "from app_jobs.jobs where id = $1",
        job_id,
    )
    assert row is not None
    assert json.loads(row["payload"]) == {"id": 7, "customer": "Ada", "total": 12.5, "country": "DE", "express": True}
    assert (row["queue_name"], row["key"], row["priority"], row["max_attempts"]) == ("q", "k", -3, 4)
    assert (str(row["database_id"]), row["is_later"], row["margin"]) == (TENANT, True, timedelta(hours=1))


async def test_job_that_expires_before_it_may_run_is_refused(shop: Site, jobs: Jobs) -> None:
    response = await shop.post("/enqueue", VALID_FORM | {"delay": "2", "delay_unit": "h", "expiry": "60"})
    assert response.status_code == 422
    assert problem_at(response.text, "expiry") == "must be longer than the time until it runs"
    assert await jobs.count() == 0


async def test_invalid_form_shows_each_error_at_its_field_and_keeps_the_values(shop: Site, jobs: Jobs) -> None:
    form = VALID_FORM | {
        "payload/id": "zero",
        "payload/customer": "A",
        "payload/total": "much",
        "payload/due": "tomorrow",
        "priority": "high",
        "max_attempts": "0",
        "delay": "-1",
        "expiry": "soon",
        "database_id": "me",
    }
    response = await shop.post("/enqueue", form)
    assert response.status_code == 422
    names = ("payload/id", "payload/customer", "payload/total", "payload/due", "payload/country")
    assert {name: problem_at(response.text, name) for name in (*names, *form.keys() - VALID_FORM.keys())} == {
        "payload/id": "'zero' is not of type 'integer'",
        "payload/customer": "'A' is too short",
        "payload/total": "'much' is not of type 'number'",
        "payload/due": "'tomorrow' is not a 'date'",
        "payload/country": None,
        "priority": "must be an integer",
        "max_attempts": "must be an integer, 1 or more",
        "delay": "must be a number from 0 to ten years",
        "expiry": "must be a number from 0 to ten years",
        "database_id": "must be a UUID",
    }
    assert 'value="zero"' in response.text
    assert await jobs.count() == 0


async def test_form_can_be_edited_as_json(shop: Site) -> None:
    page = (await shop.get("/enqueue?task=process_invoice&as=json")).text
    assert "Edit as form" in page
    assert json.loads(editor_text(page)) == {
        "id": 1,
        "customer": "string",
        "total": None,
        "due": None,
        "country": "FR",
        "express": False,
    }
    form = {"task": "process_invoice", "as": "json", "payload": '{"id": 7, "customer": "Ada"}'}
    assert (await shop.post("/enqueue", form)).status_code == 303


async def test_nested_payload_is_edited_as_json_with_an_example(shop: Site, jobs: Jobs) -> None:
    page = (await shop.get("/enqueue?task=ship_order")).text
    assert "Edit as form" not in page
    example = editor_text(page)
    assert json.loads(example) == {"id": 1, "tags": ["string"], "address": {"street": "string", "city": "Paris"}}
    response = await shop.post("/enqueue", {"task": "ship_order", "as": "json", "payload": example})
    job = await jobs.row(int(response.headers["Location"].removeprefix("/jobs/")))
    assert json.loads(job["payload"]) == json.loads(example)


async def test_invalid_json_payload_shows_its_errors_and_keeps_the_text(shop: Site, jobs: Jobs) -> None:
    form = {"task": "ship_order", "as": "json", "payload": '{"id": 0, "tags": [1], "address": {}}'}
    response = await shop.post("/enqueue", form)
    assert response.status_code == 422
    assert problem_at(response.text, "payload") == (
        "id: 0 is less than the minimum of 1; tags/0: 1 is not of type 'string'; address/street: is required"
    )
    assert editor_text(response.text) == form["payload"]
    broken = await shop.post("/enqueue", form | {"payload": "{"})
    assert (problem_at(broken.text, "payload") or "").startswith("invalid JSON: ")
    assert await jobs.count() == 0


async def test_remote_reference_in_a_schema_is_not_fetched(open_site: OpenSite, serve: Serve, jobs: Jobs) -> None:
    requested: list[str] = []

    async def index(request: Request) -> Response:
        requested.append(request.url.path)
        schema = {"$ref": f"{request.base_url}schema"}
        return JSONResponse({"tasks": [{"identifier": "remote", "payload": schema}]})

    app = Starlette(routes=[Route("/", index), Route("/schema", index)])
    dashboard = await open_site(functions=await serve(app))
    assert (await dashboard.get("/enqueue?task=remote")).status_code == 200
    assert (await dashboard.post("/enqueue", {"task": "remote", "payload": "{}"})).status_code == 303
    assert set(requested) == {"/"}
    assert await jobs.count() == 1


async def test_task_without_payload_has_no_fields(shop: Site) -> None:
    assert "This task takes no payload." in (await shop.get("/enqueue?task=cleanup")).text
    assert (await shop.post("/enqueue", {"task": "cleanup"})).status_code == 303


async def test_unlisted_task_is_edited_as_json(shop: Site, open_site: OpenSite) -> None:
    assert "/ does not list it" in (await shop.get("/enqueue?task=unknown")).text
    assert (await shop.post("/enqueue", {"task": "unknown", "payload": "{}"})).status_code == 303
    without_functions = await open_site(functions="http://127.0.0.1:9")
    assert "is unreachable" in (await without_functions.get("/enqueue?task=unknown")).text
    assert "is unreachable" in (await without_functions.get("/enqueue")).text


async def test_other_http_service_lists_no_tasks(open_site: OpenSite, serve: Serve) -> None:
    for response, message in (
        (JSONResponse({"hello": "world"}), "is not a jobfn function app"),
        (Response(b"x" * (5 * 1024 * 1024)), "its response exceeds 4194304 bytes"),
    ):
        dashboard = await open_site(functions=await serve(response))
        assert message in (await dashboard.get("/enqueue")).text


async def test_long_task_queue_and_key_are_rejected(shop: Site, jobs: Jobs) -> None:
    for name in ("", "x" * 127):
        response = await shop.post("/enqueue", {"task": name, "payload": "{}"})
        assert (response.status_code, await jobs.count()) == (422, 0)
    response = await shop.post("/enqueue", {"task": "cleanup", "queue": "q" * 127, "key": "k" * 513})
    assert problem_at(response.text, "queue") == "must have at most 126 characters"
    assert problem_at(response.text, "key") == "must have at most 512 characters"


async def test_database_error_is_shown(shop: Site, jobs: Jobs) -> None:
    await jobs.connection.execute("alter table app_jobs.jobs add constraint c check (task_identifier <> 'cleanup')")
    response = await shop.post("/enqueue", {"task": "cleanup"})
    assert (response.status_code, "the job was not added" in response.text) == (422, True)
