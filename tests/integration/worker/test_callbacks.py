"""The callback server: reports, batches, heartbeats and signed URLs (contract, section 2)."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping

import httpx
import pytest

from jobfn.worker.tokens import CallbackTokens, Claim
from support.fixtures import StartService, StartWorker
from support.functions import RecordingFunction
from support.jobs import WORKER, Jobs
from support.network import eventually
from support.secrets import CALLBACK_SECRET, OLD_CALLBACK_SECRET, schema_tokens, sign_batch_url, sign_url

NO_FUNCTION = "http://127.0.0.1:1"


@pytest.fixture
async def callbacks(start_service: StartService) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a callback server whose worker claims no jobs."""
    service = await start_service(NO_FUNCTION, support_any=False, lease_seconds=60.0)
    async with httpx.AsyncClient(timeout=30, base_url=service.callback_url.removesuffix("/callback")) as client:
        yield client


async def add_held(jobs: Jobs, worker: str = WORKER) -> int:
    job = await jobs.add("t")
    assert await jobs.claim(worker) is not None
    return job


def report_headers(job: int | str, *, attempt: int | str | None = None, failed: bool = False) -> dict[str, str]:
    headers = {"X-Worker-Id": WORKER, "X-Job-Id": str(job)}
    if attempt is not None:
        headers["X-Job-Attempt"] = str(attempt)
    return headers | ({"X-Job-Error": "true"} if failed else {})


async def test_success_report_completes_the_job(jobs: Jobs, callbacks: httpx.AsyncClient) -> None:
    job = await add_held(jobs)
    response = await callbacks.post("/callback", headers=report_headers(job), json={"status": "success"})
    assert (response.status_code, response.json()) == (200, {"workerId": WORKER, "jobId": str(job)})
    assert not await jobs.exists(job)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"status": "error", "error": "boom"}', "boom"),
        (b'{"error": "", "message": "the second"}', "the second"),
        (b"", "UNKNOWN_ERROR"),
        (b"not json", "UNKNOWN_ERROR"),
        (b'{"error": {"code": 7}}', '{"code": 7}'),
        (b'{"error": "a nul \\u0000 and half a pair \\ud800"}', "a nul  and half a pair ?"),
        (json.dumps({"error": "é" * 20_000}).encode(), "é" * 10_000),
    ],
)
async def test_failure_report_fails_the_attempt(
    body: bytes, error: str, jobs: Jobs, callbacks: httpx.AsyncClient
) -> None:
    job = await add_held(jobs)
    response = await callbacks.post("/callback", headers=report_headers(job, failed=True), content=body)
    assert (response.status_code, response.json()) == (200, {"workerId": WORKER, "jobId": str(job)})
    row = await jobs.row(job)
    assert (row["last_error"], row["locked_by"], row["attempts"]) == (error, None, 1)


@pytest.mark.parametrize(
    ("fields", "attempts", "delay"),
    [
        ({"permanent": True}, 25, None),
        ({"retryAfterSeconds": 120}, 1, 120.0),
        ({"retryAfterSeconds": 1e300}, 1, 3_155_760_000.0),  # a hundred years
        ({"retryAfterSeconds": "soon", "permanent": "yes"}, 1, 2.718),
        ({}, 1, 2.718),
    ],
)
async def test_failure_report_sets_the_retry(
    fields: dict[str, object], attempts: int, delay: float | None, jobs: Jobs, callbacks: httpx.AsyncClient
) -> None:
    job = await add_held(jobs)
    headers = report_headers(job, failed=True)
    assert (await callbacks.post("/callback", headers=headers, json={"error": "no", **fields})).status_code == 200
    row = await jobs.row(job)
    assert (row["last_error"], row["attempts"], row["locked_by"]) == ("no", attempts, None)
    if delay is not None:
        assert (row["run_at"] - row["updated_at"]).total_seconds() == pytest.approx(delay, abs=0.01)


async def test_health_probe_without_a_job_id_is_ok(callbacks: httpx.AsyncClient) -> None:
    response = await callbacks.post("/callback")
    assert (response.status_code, response.json()) == (200, "OK")


@pytest.mark.parametrize("worker", [None, "", "null", "undefined"])
async def test_report_without_a_worker_is_rejected(
    worker: str | None, jobs: Jobs, callbacks: httpx.AsyncClient
) -> None:
    job = await add_held(jobs)
    headers = {"X-Job-Id": str(job)} | ({} if worker is None else {"X-Worker-Id": worker})
    response = await callbacks.post("/callback", headers=headers)
    assert (response.status_code, "X-Worker-Id" in response.json()["error"]) == (400, True)
    assert (await jobs.until_claimed(job))["attempts"] == 1


@pytest.mark.parametrize("job", ["abc", "-1", "0", "1.5", "9223372036854775808", "1" * 400])
async def test_malformed_job_id_is_rejected(job: str, callbacks: httpx.AsyncClient) -> None:
    response = await callbacks.post("/callback", headers=report_headers(job))
    assert (response.status_code, "X-Job-Id" in response.json()["error"]) == (400, True)


@pytest.mark.parametrize("attempt", ["x", "0", "-1", "2147483648"])
async def test_malformed_attempt_is_rejected(attempt: str, jobs: Jobs, callbacks: httpx.AsyncClient) -> None:
    job = await add_held(jobs)
    response = await callbacks.post("/callback", headers=report_headers(job, attempt=attempt))
    assert (response.status_code, "X-Job-Attempt" in response.json()["error"]) == (400, True)
    await jobs.until_claimed(job)


@pytest.mark.parametrize("failed", [False, True])
async def test_report_of_another_worker_is_a_conflict(
    *, failed: bool, jobs: Jobs, callbacks: httpx.AsyncClient
) -> None:
    job = await add_held(jobs, "another-worker")
    response = await callbacks.post("/callback", headers=report_headers(job, failed=failed), json={})
    assert response.status_code == 409
    assert "does not hold this job" in response.json()["error"]
    row = await jobs.until_claimed(job)
    assert (row["locked_by"], row["last_error"]) == ("another-worker", None)


async def test_report_of_another_attempt_is_a_conflict(jobs: Jobs, callbacks: httpx.AsyncClient) -> None:
    job = await add_held(jobs)
    assert (await callbacks.post("/callback", headers=report_headers(job, attempt=2))).status_code == 409
    assert (await jobs.until_claimed(job))["attempts"] == 1


async def test_late_report_of_an_earlier_attempt_is_a_conflict(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    """Functions in other languages send back the callback URL, and no attempt."""
    gate = function.hold()
    await start_worker()
    job = await jobs.add("t")
    await jobs.until_claimed(job)
    await jobs.connection.execute("select app_jobs.cancel_jobs(array[$1::bigint], 'stop', true)", job)
    await jobs.connection.execute("select app_jobs.retry_jobs(array[$1::bigint])", job)

    async def both_delivered() -> bool:
        return len(function.received) == 2

    await eventually(both_delivered)
    first, second = (request.headers["x-callback-url"] for request in function.received)
    async with httpx.AsyncClient() as client:
        assert (await client.post(first, headers=report_headers(job), json={"status": "success"})).status_code == 409
        assert (await jobs.until_claimed(job))["attempts"] == 2
        assert (await client.post(second, headers=report_headers(job), json={"status": "success"})).status_code == 200
    assert not await jobs.exists(job)
    gate.set()


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("attempt=1&/callback", 200),
        ("attempt=1/callback", 200),  # from a template that adds /callback to every URL
        ("tenant=7&attempt=1&/callback", 200),
        ("attempts=9", 200),
        ("attempt=2&/callback", 409),
        ("attempt=x&/callback", 400),
        ("attempt=", 400),
    ],
)
async def test_attempt_in_the_url_fences_a_report(
    query: str, status: int, jobs: Jobs, callbacks: httpx.AsyncClient
) -> None:
    job = await add_held(jobs)
    batch = {"reports": [{"url": f"http://x/callback?{query}", "headers": report_headers(job), "body": "{}"}]}
    if status != 200:
        batch_url = sign_batch_url(await schema_tokens(jobs.connection), "/callbacks")
        replies = (await callbacks.post(batch_url, json=batch)).json()["replies"]
        assert [reply["status"] for reply in replies] == [status]
    assert (await callbacks.post(f"/callback?{query}", headers=report_headers(job))).status_code == status
    assert await jobs.exists(job) is (status != 200)


async def test_attempts_of_url_and_header_must_agree(jobs: Jobs, callbacks: httpx.AsyncClient) -> None:
    job = await add_held(jobs)
    response = await callbacks.post("/callback?attempt=2&/callback", headers=report_headers(job, attempt=1))
    assert (response.status_code, "X-Job-Attempt" in response.json()["error"]) == (400, True)
    assert await jobs.exists(job)


@pytest.mark.parametrize("failed", [False, True])
async def test_repeated_report_is_a_conflict(*, failed: bool, jobs: Jobs, callbacks: httpx.AsyncClient) -> None:
    job = await add_held(jobs)
    headers = report_headers(job, attempt=1, failed=failed)
    assert (await callbacks.post("/callback", headers=headers)).status_code == 200
    rows = await jobs.connection.fetch("select * from app_jobs.jobs")
    assert (await callbacks.post("/callback", headers=headers)).status_code == 409
    assert await jobs.connection.fetch("select * from app_jobs.jobs") == rows


async def test_malformed_tenant_does_not_reject_a_report(jobs: Jobs, callbacks: httpx.AsyncClient) -> None:
    """A function that rejected a delivery for its malformed tenant returns that tenant."""
    job = await add_held(jobs)
    headers = report_headers(job, failed=True) | {"X-Database-Id": "not-a-uuid"}
    response = await callbacks.post("/callback", headers=headers, json={"error": "X-Database-Id must be a UUID"})
    assert response.status_code == 200
    assert (await jobs.until_failed(job))["last_error"] == "X-Database-Id must be a UUID"


async def test_report_over_the_size_limit_is_rejected(jobs: Jobs, callbacks: httpx.AsyncClient) -> None:
    job = await add_held(jobs)
    body = json.dumps({"error": "x" * (1024 * 1024)})
    response = await callbacks.post("/callback", headers=report_headers(job, failed=True), content=body)
    assert response.status_code == 400
    assert "at most 1048576 bytes" in response.json()["error"]
    await jobs.until_claimed(job)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/callback", 405), ("PUT", "/a/heartbeat", 405), ("POST", "/", 404), ("POST", "/callback/", 404)],
)
async def test_other_requests_are_rejected_without_a_redirect(
    method: str, path: str, status: int, callbacks: httpx.AsyncClient
) -> None:
    response = await callbacks.request(method, path, headers={"Host": "elsewhere.example"})
    assert response.status_code == status
    assert "X-Callback-Url" in response.json()["error"]
    assert "location" not in response.headers


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_probe_is_ok(path: str, callbacks: httpx.AsyncClient) -> None:
    assert (await callbacks.get(path)).status_code == 200


async def test_simultaneous_reports_are_settled(jobs: Jobs, callbacks: httpx.AsyncClient) -> None:
    ids = [await jobs.add("t") for _ in range(50)]
    await jobs.connection.fetch("select * from app_jobs.claim_jobs($1, null, '1 hour', 50)", WORKER)

    async def report(job: int) -> tuple[int, bool]:
        response = await callbacks.post("/callback", headers=report_headers(job))
        return response.status_code, response.json()["jobId"] == str(job)

    assert set(await asyncio.gather(*(report(job) for job in ids))) == {(200, True)}
    assert await jobs.count() == 0


async def test_each_report_of_a_batch_has_its_own_reply(jobs: Jobs, callbacks: httpx.AsyncClient) -> None:
    done, failed = await add_held(jobs), await add_held(jobs)
    reports: list[tuple[Mapping[str, str], str]] = [
        (report_headers(done), "{}"),
        (report_headers(failed, failed=True), '{"error": "boom"}'),
        ({"X-Worker-Id": "another-worker", "X-Job-Id": str(failed)}, "{}"),
        ({"X-Job-Id": str(failed)}, "{}"),
    ]
    batch = {"reports": [{"url": "http://x/callback", "headers": headers, "body": body} for headers, body in reports]}
    batch_url = sign_batch_url(await schema_tokens(jobs.connection), "/callbacks")
    response = await callbacks.post(batch_url, json=batch)
    assert response.status_code == 200
    replies = response.json()["replies"]
    assert [reply["status"] for reply in replies] == [200, 200, 409, 400]
    assert replies[0]["content"] == {"workerId": WORKER, "jobId": str(done)}
    assert "X-Worker-Id" in replies[3]["content"]["error"]
    assert not await jobs.exists(done)
    assert (await jobs.until_failed(failed))["last_error"] == "boom"


@pytest.mark.parametrize("body", [b"", b"[]", b'{"reports": [7]}'])
async def test_malformed_batch_is_rejected(body: bytes, jobs: Jobs, callbacks: httpx.AsyncClient) -> None:
    batch_url = sign_batch_url(await schema_tokens(jobs.connection), "/callbacks")
    response = await callbacks.post(batch_url, content=body)
    assert response.status_code == 400
    assert response.json()["error"].startswith("the body is not a batch of reports: ")


async def test_heartbeat_renews_the_lease_and_records_progress(jobs: Jobs, callbacks: httpx.AsyncClient) -> None:
    job = await add_held(jobs)
    headers = report_headers(job, attempt=1)
    url = sign_url(await schema_tokens(jobs.connection), "/heartbeat", Claim(WORKER, job, 1))
    response = await callbacks.post(url, headers=headers, json={"progress": 0.25, "note": "rendering"})
    assert (response.status_code, response.json()) == (200, {"leaseSeconds": 60.0})
    assert (await callbacks.post(url, headers=headers)).status_code == 200
    row = await jobs.until_claimed(job)
    assert (row["progress"], row["progress_message"]) == (0.25, "rendering")
    assert (row["lease_expires_at"] - row["locked_at"]).total_seconds() > 50


@pytest.mark.parametrize(
    ("attempt", "body", "status"),
    [(2, b"", 409), (1, b'{"progress": 2}', 400), (1, b'{"note": 7}', 400), (1, b"{", 400)],
)
async def test_invalid_heartbeat_is_rejected(
    attempt: int, body: bytes, status: int, jobs: Jobs, callbacks: httpx.AsyncClient
) -> None:
    job = await add_held(jobs)
    url = sign_url(await schema_tokens(jobs.connection), "/heartbeat", Claim(WORKER, job, attempt))
    response = await callbacks.post(url, headers=report_headers(job, attempt=attempt), content=body)
    assert response.status_code == status


async def test_report_before_the_response_decides(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    gate = function.hold()
    await start_worker()
    job = await jobs.add("t")
    await function.arrived.wait()
    async with httpx.AsyncClient(timeout=30) as client:
        url = function.received[0].headers["x-callback-url"]
        await client.post(url, headers=report_headers(job, failed=True), json={"error": "reported"})
    gate.set()
    await jobs.until_gone(await jobs.add("another"))
    assert (await jobs.until_failed(job))["last_error"] == "reported"


async def test_report_after_the_response_decides_within_the_grace_period(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    """The Node SDK responds first and then reports."""
    await start_worker(report_grace_seconds=60.0)
    job = await jobs.add("t")
    await function.arrived.wait()
    await jobs.until_claimed(job)
    async with httpx.AsyncClient(timeout=30) as client:
        url = function.received[0].headers["x-callback-url"]
        await client.post(url, headers=report_headers(job, failed=True), json={"error": "reported"})
    assert (await jobs.until_failed(job))["last_error"] == "reported"


@pytest.mark.parametrize("host", ["[", "[::1", "a/b?c#d", "a:b"])
async def test_host_header_is_ignored(host: str, start_service: StartService) -> None:
    service = await start_service(NO_FUNCTION, support_any=False, callback_secrets=CALLBACK_SECRET)
    async with httpx.AsyncClient() as client:
        response = await client.post(service.callback_url, headers=report_headers(1) | {"Host": host})
    assert response.status_code == 401


@pytest.mark.parametrize(("lease_ends", "status"), [("1 minute", 200), ("-1 second", 401), (None, 401)])
async def test_token_lives_longer_while_the_lease_is_renewed(
    lease_ends: str | None, status: int, jobs: Jobs, start_service: StartService
) -> None:
    service = await start_service(NO_FUNCTION, support_any=False, callback_secrets=CALLBACK_SECRET)
    job = await add_held(jobs)
    await jobs.connection.execute("update app_jobs.jobs set lease_expires_at = now() + $1::text::interval", lease_ends)
    two_hours_ago = time.time() - 7200
    tokens = CallbackTokens([CALLBACK_SECRET], max_age_seconds=1, clock=lambda: two_hours_ago)
    url = sign_url(tokens, service.callback_url, Claim(WORKER, job, 1))
    async with httpx.AsyncClient() as client:
        heartbeat = await client.post(url.replace("/callback?", "/heartbeat?"), headers=report_headers(job))
        report = await client.post(url, headers=report_headers(job))
    assert (heartbeat.status_code, report.status_code) == (status, status)
    assert await jobs.exists(job) is (status != 200)


async def test_signed_url_is_required_with_a_secret(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    gate = function.hold()
    service = await start_worker(callback_secrets=f"{CALLBACK_SECRET},{OLD_CALLBACK_SECRET}")
    job = await jobs.add("t")
    await function.arrived.wait()

    def sign(secret: str, claim: Claim) -> str:
        return sign_url(CallbackTokens([secret], max_age_seconds=60), service.callback_url, claim)

    signed = function.received[0].headers["x-callback-url"]
    assert signed.startswith(f"{service.callback_url}?token=")
    assert signed.endswith("&/callback")
    heartbeat_url = signed.replace("/callback?", "/heartbeat?").removesuffix("&/callback")
    assert function.received[0].headers["x-heartbeat-url"] == heartbeat_url
    unauthorized = [
        service.callback_url,
        sign("guess" * 10, Claim(WORKER, job, 1)),
        sign(CALLBACK_SECRET, Claim(WORKER, job + 1, 1)),
        sign(CALLBACK_SECRET, Claim("another-worker", job, 1)),
    ]
    async with httpx.AsyncClient(headers=report_headers(job), timeout=30) as client:
        for url in unauthorized:
            response = await client.post(url)
            assert response.status_code == 401, url
            assert "token" in response.json()["error"]
        assert (await client.post(signed, headers={"X-Job-Attempt": "2"})).status_code == 401
        assert (await jobs.until_claimed(job))["attempts"] == 1
        assert (await client.post(sign(OLD_CALLBACK_SECRET, Claim(WORKER, job, 7)))).status_code == 409
        assert (await client.post(signed)).status_code == 200
    assert not await jobs.exists(job)
    gate.set()
