"""The requests of the worker, and the meaning of responses (contract, sections 1 and 5)."""

import json
import re

import pytest

from support.fixtures import Serve, StartService, StartWorker
from support.functions import RecordingFunction
from support.jobs import TENANT, WORKER, Jobs
from support.secrets import CALLBACK_SECRET

ACTOR = "8c1d6a3e-0b1f-4c6e-9d3c-2f6f0a1b2c3d"
ORGANIZATION = "7d444840-9dc0-11d1-b245-5ffdce74fad2"
ENTITY = "0f0e0d0c-0b0a-4909-8807-060504030201"


async def test_request_has_the_payload_and_the_job_s_headers(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    service = await start_worker(callback_secrets=CALLBACK_SECRET)
    async with jobs.connection.transaction():
        job = await jobs.add("process_invoice", {"id": 1.5, "ü": [None]})
        created_at = await jobs.connection.fetchval("select date_part('epoch', now())")
    await jobs.until_gone(job)
    (request,) = function.received
    assert request.path == "/process_invoice"
    assert request.body == {"id": 1.5, "ü": [None]}
    token = request.headers["x-callback-url"].partition("token=")[2].removesuffix("&/callback")
    batch_token = request.headers["x-callback-batch"].partition("token=")[2]
    assert re.fullmatch(rf"[0-9a-f]+\.{job}-1_r[0-9a-f]{{1,8}}\.[\w-]{{43}}", token)
    assert re.fullmatch(r"[0-9a-f]+\.\.[\w-]{43}", batch_token)
    assert {name: value for name, value in request.headers.items() if name.startswith("x-")} == {
        "x-worker-id": WORKER,
        "x-job-id": str(job),
        "x-job-attempt": "1",
        "x-job-created-at": str(created_at),
        "x-callback-url": f"{service.callback_url}?token={token}&/callback",
        "x-callback-batch": f"{service.callback_url}s?worker={WORKER}&token={batch_token}",
        "x-heartbeat-url": service.callback_url.replace("/callback", f"/heartbeat?token={token}"),
        "x-lease-seconds": "30",
        "x-settle-on": "response",
        "x-durable": "steps",
        "x-installation-id": str(await jobs.connection.fetchval("select id from app_jobs.installation")),
    }
    assert request.headers["content-type"] == "application/json"


async def test_tenant_actor_entity_and_organization_are_headers(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    await jobs.connection.execute(
        """
        insert into app_jobs.jobs (task_identifier, database_id, actor_id, entity_id, organization_id)
        values ('t', $1, $2, $3, $4)
        """,
        TENANT,
        ACTOR,
        ENTITY,
        ORGANIZATION,
    )
    await start_worker()
    await jobs.until_gone(1)
    headers = function.received[0].headers
    assert (headers["x-database-id"], headers["x-actor-id"], headers["x-entity-id"]) == (TENANT, ACTOR, ENTITY)
    assert headers["x-organization-id"] == ORGANIZATION


async def test_settle_on_response_sends_no_callback_url(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    service = await start_worker(settle_on="response", report_grace_seconds=3600.0, callback_secrets=CALLBACK_SECRET)
    await jobs.until_gone(await jobs.add("t"))
    function.respond(500, {"message": "no", "retryAfterSeconds": 3600})
    assert (await jobs.until_failed(await jobs.add("t")))["last_error"] == "no"
    for request in function.received:
        assert not {"x-callback-url", "x-callback-batch"} & request.headers.keys()
        assert request.headers["x-heartbeat-url"].startswith(service.callback_url.removesuffix("callback"))


async def test_response_about_another_job_fails_the_attempt(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    """A server that sends a response late, or twice, must not settle the next job of its connection."""
    function.respond(200, headers={"X-Job-Id": "999"})
    await start_worker()
    row = await jobs.until_failed(await jobs.add("t"))
    assert row["last_error"].endswith("/t failed: the response is about another job (X-Job-Id)")


@pytest.mark.parametrize(
    ("task", "path"),
    [
        ("email:send_email", "/email:send_email"),
        ("a/b", "/a%2Fb"),
        ("with space & ü?#%", "/with%20space%20&%20%C3%BC%3F%23%25"),
        ("x" * 126, "/" + "x" * 126),
    ],
)
async def test_task_identifier_is_one_encoded_path_segment(
    task: str, path: str, jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    job = await jobs.add(task)
    await start_worker()
    await jobs.until_gone(job)
    assert [request.path for request in function.received] == [path]


async def test_task_placeholder_in_the_gateway_url_is_replaced(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    await start_service(await serve(function.app) + "/fn/{task}/run?v=1")
    await jobs.until_gone(await jobs.add("a:b"))
    assert function.received[0].path == "/fn/a:b/run"


async def test_development_map_takes_precedence_over_the_gateway(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    url = await serve(function.app)
    await start_service(f"{url}/gateway", development_map=json.dumps({"mapped": f"{url}/its/own"}))
    await jobs.until_gone(await jobs.add("mapped"))
    await jobs.until_gone(await jobs.add("other"))
    assert [request.path for request in function.received] == ["/its/own", "/gateway/other"]


@pytest.mark.parametrize(
    ("status", "content", "headers", "error"),
    [
        (500, {"message": "boom"}, {}, "boom"),
        (200, {"message": "failed by header"}, {"X-Job-Error": "true"}, "failed by header"),
        (503, {"message": "failed by header"}, {"X-Job-Error": "true"}, "failed by header"),
        (502, "overloaded", {}, '{url}/t responded with 502: "overloaded"'),
        (404, None, {}, "{url}/t responded with 404: null"),
        (500, {"message": {"not": "text"}}, {}, '{{"not": "text"}}'),
        (302, None, {"Location": "http://127.0.0.1:1/"}, None),
    ],
)
async def test_response_settles_the_job_without_a_report(
    status: int,
    content: object,
    headers: dict[str, str],
    error: str | None,
    jobs: Jobs,
    function: RecordingFunction,
    serve: Serve,
    start_service: StartService,
) -> None:
    function.respond(status, content, headers)
    url = await serve(function.app)
    job = await jobs.add("t")
    await start_service(url)
    if error is None:
        await jobs.until_gone(job)
    else:
        row = await jobs.until_failed(job)
        assert (row["last_error"], row["attempts"]) == (error.format(url=url), 1)


async def test_permanent_failure_in_a_response_uses_up_the_attempts(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    function.respond(422, {"message": "wrong", "permanent": True})
    await start_worker()
    row = await jobs.until_failed(await jobs.add("t"))
    assert (row["last_error"], row["attempts"]) == ("wrong", 25)


async def test_accepted_job_stays_locked_until_its_report(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    function.respond(202)
    await start_worker()
    accepted = await jobs.add("accepted")
    await function.arrived.wait()
    function.respond(200)
    await jobs.until_gone(await jobs.add("answered"))
    assert (await jobs.until_claimed(accepted))["locked_by"] == WORKER


async def test_connection_error_fails_the_job_and_names_the_url(jobs: Jobs, start_service: StartService) -> None:
    await start_service("http://127.0.0.1:1")
    row = await jobs.until_failed(await jobs.add("t"))
    assert "http://127.0.0.1:1/t" in row["last_error"]
    assert "refused" in row["last_error"].lower() or "connect" in row["last_error"].lower()


async def test_response_timeout_fails_the_job(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    function.hold()
    url = await serve(function.app)
    await start_service(url, request_timeout_seconds=0.2)
    row = await jobs.until_failed(await jobs.add("t"))
    assert row["last_error"] == f"POST {url}/t got no response within 0.2 s"
