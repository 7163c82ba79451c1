"""What the worker sends, where to, and what it makes of the answer (contract, sections 1 and 5)."""

import json

import pytest

from support.fixtures import Serve, StartService
from support.functions import RecordingFunction
from support.jobs import TENANT, WORKER, Jobs

ACTOR = "8c1d6a3e-0b1f-4c6e-9d3c-2f6f0a1b2c3d"
ENTITY = "0f0e0d0c-0b0a-4909-8807-060504030201"


async def test_a_delivery_carries_the_payload_and_the_job_s_headers(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """The POST goes to {KNATIVE_SERVICE_URL}/{task}, with the stored JSON and exactly the headers that have values."""
    service = await start_service(await serve(function.app))
    job = await jobs.add("process_invoice", {"id": 1.5, "ü": [None]})
    await jobs.until_gone(job)
    (received,) = function.received
    assert received.path == "/process_invoice"
    assert received.body == {"id": 1.5, "ü": [None]}
    ours = {name: value for name, value in received.headers.items() if name.startswith("x-")}
    assert ours == {
        "x-worker-id": WORKER,
        "x-job-id": str(job),
        "x-job-attempt": "1",
        "x-callback-url": service.callback_url,
        "x-callback-batch": service.callback_url.replace("/callback", "/callbacks"),
        "x-heartbeat-url": service.callback_url.replace("/callback", "/heartbeat"),
        "x-lease-seconds": "30",
    }
    assert received.headers["content-type"] == "application/json"


async def test_with_responses_that_settle_no_report_is_asked_for(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """JOBS_SETTLE_ON=response: no callback URL goes out; success and failure are written down as the response comes."""
    service = await start_service(
        await serve(function.app), settle_on="response", report_grace_seconds=3600.0, callback_secrets="one"
    )
    await jobs.until_gone(await jobs.add("t"))
    function.answer(500, {"message": "no", "retryAfterSeconds": 3600})
    row = await jobs.until_failed(await jobs.add("t"))
    assert row["last_error"] == "no"
    for received in function.received:
        assert not {"x-callback-url", "x-callback-batch"} & received.headers.keys()
        assert received.headers["x-heartbeat-url"].startswith(service.callback_url.removesuffix("callback"))


async def test_tenant_actor_and_entity_travel_where_the_row_has_them(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """X-Database-Id, X-Actor-Id and X-Entity-Id are the row's database_id, actor_id and entity_id."""
    await jobs.connection.execute(
        "insert into app_jobs.jobs (task_identifier, database_id, actor_id, entity_id) values ('t', $1, $2, $3)",
        TENANT,
        ACTOR,
        ENTITY,
    )
    await start_service(await serve(function.app))
    await jobs.until_gone(1)
    headers = function.received[0].headers
    assert (headers["x-database-id"], headers["x-actor-id"], headers["x-entity-id"]) == (TENANT, ACTOR, ENTITY)


@pytest.mark.parametrize(
    ("task", "path"),
    [
        ("email:send_email", "/email:send_email"),
        ("a/b", "/a%2Fb"),
        ("with space & ü?#%", "/with%20space%20&%20%C3%BC%3F%23%25"),
        ("x" * 126, "/" + "x" * 126),
    ],
)
async def test_a_task_identifier_is_percent_encoded_as_one_segment(
    task: str, path: str, jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """Characters that a path cannot hold are encoded; ':' stays readable."""
    job = await jobs.add(task)
    await start_service(await serve(function.app))
    await jobs.until_gone(job)
    assert [received.path for received in function.received] == [path]


async def test_a_gateway_url_with_a_place_for_the_task_is_filled_in(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """KNATIVE_SERVICE_URL=http://.../fn/{task}/run: the task goes where {task} stands."""
    await start_service(await serve(function.app) + "/fn/{task}/run?v=1")
    job = await jobs.add("a:b")
    await jobs.until_gone(job)
    assert function.received[0].path == "/fn/a:b/run"


async def test_the_development_map_goes_before_the_gateway_and_is_used_whole(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """INTERNAL_GATEWAY_DEVELOPMENT_MAP sends a mapped task to its own URL, every other to the gateway."""
    url = await serve(function.app)
    mapping = json.dumps({"mapped": f"{url}/its/own"})
    await start_service(f"{url}/gateway", development_map=mapping)
    first = await jobs.add("mapped")
    await jobs.until_gone(first)
    second = await jobs.add("other")
    await jobs.until_gone(second)
    assert [received.path for received in function.received] == ["/its/own", "/gateway/other"]


@pytest.mark.parametrize(
    ("status", "content", "headers", "error"),
    [
        (500, {"message": "boom"}, {}, "boom"),
        (500, {"error": "boom"}, {}, "boom"),
        (200, {"message": "said in a header"}, {"X-Job-Error": "true"}, "said in a header"),
        (422, {"message": "wrong payload"}, {}, "wrong payload"),
        (502, "overloaded", {}, '{url}/t answered 502: "overloaded"'),
        (404, None, {}, "{url}/t answered 404: null"),
        (500, {"message": {"not": "text"}}, {}, '{{"not": "text"}}'),
        (500, [1], {}, "{url}/t answered 500: [1]"),
        (302, None, {"Location": "http://127.0.0.1:1/"}, None),
    ],
)
async def test_without_a_report_the_response_settles_the_job(
    status: int,
    content: object,
    headers: dict[str, str],
    error: str | None,
    jobs: Jobs,
    function: RecordingFunction,
    serve: Serve,
    start_service: StartService,
) -> None:
    """A failing response fails the job with its message, or with a text that names the URL; others complete it."""
    function.answer(status, content, headers)
    url = await serve(function.app)
    job = await jobs.add("t")
    await start_service(url)
    if error is None:
        await jobs.until_gone(job)
    else:
        row = await jobs.until_failed(job)
        assert row["last_error"] == error.format(url=url)
        assert row["attempts"] == 1


async def test_an_accepted_job_waits_for_its_report(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """After 202 the response decides nothing: the job stays locked until it is reported."""
    function.answer(202)
    await start_service(await serve(function.app))
    accepted = await jobs.add("accepted")
    await function.arrived.wait()
    function.answer(200)
    second = await jobs.add("answered")
    await jobs.until_gone(second)
    assert (await jobs.until_held(accepted))["locked_by"] == WORKER


async def test_a_connection_error_fails_the_job_and_names_the_url(jobs: Jobs, start_service: StartService) -> None:
    """Nothing listens at the function's address: last_error says where it was looked for."""
    await start_service("http://127.0.0.1:1")
    job = await jobs.add("t")
    row = await jobs.until_failed(job)
    assert "http://127.0.0.1:1/t" in row["last_error"]
    assert "refused" in row["last_error"].lower() or "connect" in row["last_error"].lower()


async def test_a_function_that_does_not_answer_in_time_fails_the_job(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """JOBS_REQUEST_TIMEOUT_SECONDS bounds how long a function may take to answer."""
    function.hold()
    url = await serve(function.app)
    await start_service(url, request_timeout_seconds=0.2)
    job = await jobs.add("t")
    row = await jobs.until_failed(job)
    assert row["last_error"] == f"POST {url}/t got no response within 0.2 s"
