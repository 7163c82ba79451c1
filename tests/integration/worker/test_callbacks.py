"""The callback server, asked over a real socket (contract, section 2)."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from support.fixtures import Serve, StartService
from support.functions import RecordingFunction
from support.jobs import WORKER, Jobs


@pytest.fixture
async def callbacks(start_service: StartService) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a callback server whose worker takes no job by itself."""
    service = await start_service("http://127.0.0.1:1", support_any=False)
    async with httpx.AsyncClient(timeout=30, base_url=service.callback_url.removesuffix("/callback")) as client:
        yield client


async def held(jobs: Jobs, worker: str = WORKER) -> int:
    job = await jobs.add("t")
    await jobs.connection.execute("select app_jobs.get_job($1)", worker)
    return job


async def test_a_report_of_success_completes_the_job(jobs: Jobs, callbacks: httpx.AsyncClient) -> None:
    """200 with worker and job, once the row is gone."""
    job = await held(jobs)
    headers = {"X-Worker-Id": WORKER, "X-Job-Id": str(job)}
    answer = await callbacks.post("/callback", headers=headers, json={"status": "success"})
    assert (answer.status_code, answer.json()) == (200, {"workerId": WORKER, "jobId": str(job)})
    assert await jobs.row(job) is None


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"status": "error", "error": "boom"}', "boom"),
        (b'{"message": "said so"}', "said so"),
        (b'{"error": "", "message": "the second"}', "the second"),
        (b"{}", "UNKNOWN_ERROR"),
        (b"", "UNKNOWN_ERROR"),
        (b"no json", "UNKNOWN_ERROR"),
        (b"[1]", "UNKNOWN_ERROR"),
        (b'{"error": {"code": 7}}', '{"code": 7}'),
        (b'{"error": "a nul \\u0000 and half a pair \\ud800"}', "a nul  and half a pair ?"),
    ],
)
async def test_a_report_of_failure_fails_the_job(
    body: bytes, error: str, jobs: Jobs, callbacks: httpx.AsyncClient
) -> None:
    """X-Job-Error: true records body.error, else body.message, else UNKNOWN_ERROR, and unlocks the job."""
    job = await held(jobs)
    headers = {"X-Worker-Id": WORKER, "X-Job-Id": str(job), "X-Job-Error": "true"}
    answer = await callbacks.post("/callback", headers=headers, content=body)
    assert (answer.status_code, answer.json()) == (200, {"workerId": WORKER, "jobId": str(job)})
    row = await jobs.row(job)
    assert row is not None
    assert (row["last_error"], row["locked_by"], row["attempts"]) == (error, None, 1)


async def test_without_a_job_id_it_says_ok(callbacks: httpx.AsyncClient) -> None:
    """Health probes post nothing and get 200, "OK"."""
    answer = await callbacks.post("/callback")
    assert (answer.status_code, answer.json()) == (200, "OK")


@pytest.mark.parametrize("worker", [None, "", "null", "undefined"])
async def test_a_job_id_without_a_worker_is_refused(
    worker: str | None, jobs: Jobs, callbacks: httpx.AsyncClient
) -> None:
    """400 with an error, and nothing changed."""
    job = await held(jobs)
    headers = {"X-Job-Id": str(job)} | ({} if worker is None else {"X-Worker-Id": worker})
    answer = await callbacks.post("/callback", headers=headers)
    assert answer.status_code == 400
    assert "X-Worker-Id" in answer.json()["error"]
    assert (await jobs.until_held(job))["attempts"] == 1


@pytest.mark.parametrize("job", ["abc", "-1", "0", "1.5", "9223372036854775808", "1" * 400])
async def test_a_malformed_job_id_is_refused(job: str, callbacks: httpx.AsyncClient) -> None:
    """400 with an error that names the header."""
    answer = await callbacks.post("/callback", headers={"X-Worker-Id": WORKER, "X-Job-Id": job})
    assert answer.status_code == 400
    assert "X-Job-Id" in answer.json()["error"]


@pytest.mark.parametrize("extra", [{}, {"X-Job-Error": "true"}])
async def test_a_worker_that_does_not_hold_the_job_changes_nothing(
    extra: dict[str, str], jobs: Jobs, callbacks: httpx.AsyncClient
) -> None:
    """A report under another worker's name is told so (409) and has no effect."""
    job = await held(jobs, "somebody-else")
    headers = {"X-Worker-Id": WORKER, "X-Job-Id": str(job)} | extra
    answer = await callbacks.post("/callback", headers=headers, json={})
    assert answer.status_code == 409
    assert "does not hold this job" in answer.json()["error"]
    row = await jobs.until_held(job)
    assert (row["locked_by"], row["last_error"]) == ("somebody-else", None)


async def test_a_report_of_an_earlier_attempt_changes_nothing(jobs: Jobs, callbacks: httpx.AsyncClient) -> None:
    """Where the function echoes X-Job-Attempt, a late report does not settle the next attempt."""
    job = await held(jobs)
    headers = {"X-Worker-Id": WORKER, "X-Job-Id": str(job), "X-Job-Attempt": "2"}
    assert (await callbacks.post("/callback", headers=headers)).status_code == 409
    assert (await jobs.until_held(job))["attempts"] == 1


async def test_a_report_may_echo_headers_that_are_malformed(jobs: Jobs, callbacks: httpx.AsyncClient) -> None:
    """A function that was refused for a malformed tenant reports that, with the tenant as it came."""
    job = await held(jobs)
    headers = {"X-Worker-Id": WORKER, "X-Job-Id": str(job), "X-Job-Error": "true", "X-Database-Id": "no uuid"}
    answer = await callbacks.post("/callback", headers=headers, json={"error": "X-Database-Id must be a UUID"})
    assert answer.status_code == 200
    assert (await jobs.until_failed(job))["last_error"] == "X-Database-Id must be a UUID"


@pytest.mark.parametrize("attempt", ["x", "0", "-1", "2147483648"])
async def test_a_malformed_attempt_is_refused(attempt: str, jobs: Jobs, callbacks: httpx.AsyncClient) -> None:
    """It would settle any attempt if it counted as not said."""
    job = await held(jobs)
    headers = {"X-Worker-Id": WORKER, "X-Job-Id": str(job), "X-Job-Attempt": attempt}
    answer = await callbacks.post("/callback", headers=headers)
    assert (answer.status_code, "X-Job-Attempt" in answer.json()["error"]) == (400, True)
    await jobs.until_held(job)


async def test_a_report_too_long_to_read_is_refused(jobs: Jobs, callbacks: httpx.AsyncClient) -> None:
    """An error text over 1 MiB is a 400 that says so; the job stays held for another report."""
    job = await held(jobs)
    headers = {"X-Worker-Id": WORKER, "X-Job-Id": str(job), "X-Job-Error": "true"}
    body = json.dumps({"error": "x" * (1024 * 1024)})
    answer = await callbacks.post("/callback", headers=headers, content=body)
    assert answer.status_code == 400
    assert "at most 1048576 bytes" in answer.json()["error"]
    await jobs.until_held(job)


async def test_an_error_text_is_kept_up_to_a_length(jobs: Jobs, callbacks: httpx.AsyncClient) -> None:
    """last_error holds the first 10,000 characters."""
    job = await held(jobs)
    headers = {"X-Worker-Id": WORKER, "X-Job-Id": str(job), "X-Job-Error": "true"}
    await callbacks.post("/callback", headers=headers, json={"error": "é" * 20_000})
    row = await jobs.row(job)
    assert row is not None
    assert row["last_error"] == "é" * 10_000


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/callback", 405), ("PUT", "/a/heartbeat", 405), ("POST", "/", 404), ("POST", "/callback/", 404)],
)
async def test_other_ways_in_are_closed(method: str, path: str, status: int, callbacks: httpx.AsyncClient) -> None:
    """Only POST .../callback and .../heartbeat are heard; the rest is told so in JSON, and sent on to nowhere."""
    answer = await callbacks.request(method, path, headers={"Host": "elsewhere.example"})
    assert answer.status_code == status
    assert "X-Callback-Url" in answer.json()["error"]
    assert "location" not in answer.headers


@pytest.mark.parametrize("host", ["[", "[::1", "a/b?c#d", "a:b"])
async def test_a_host_header_means_nothing(host: str, start_service: StartService) -> None:
    """Whatever it holds, a report without a token is refused with 401, and not with a 500."""
    service = await start_service("http://127.0.0.1:1", support_any=False, callback_secrets="s")
    headers = {"X-Worker-Id": WORKER, "X-Job-Id": "1", "Host": host}
    async with httpx.AsyncClient() as client:
        assert (await client.post(service.callback_url, headers=headers)).status_code == 401


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_it_says_that_it_is_alive(path: str, callbacks: httpx.AsyncClient) -> None:
    """Probes get 200."""
    assert (await callbacks.get(path)).status_code == 200


async def test_many_reports_at_once_are_all_settled(jobs: Jobs, callbacks: httpx.AsyncClient) -> None:
    """Fifty reports sent together: each is answered when its job is gone."""
    ids = [await jobs.add("t") for _ in range(50)]
    await jobs.connection.fetch("select * from app_jobs.claim_jobs($1, null, '1 hour', 50)", WORKER)

    async def report(job: int) -> tuple[int, bool]:
        answer = await callbacks.post("/callback", headers={"X-Worker-Id": WORKER, "X-Job-Id": str(job)})
        return answer.status_code, answer.json()["jobId"] == str(job)

    assert set(await asyncio.gather(*(report(job) for job in ids))) == {(200, True)}
    assert await jobs.count() == 0


async def test_a_batch_of_reports_settles_each_by_itself(jobs: Jobs, callbacks: httpx.AsyncClient) -> None:
    """Success, failure, one that comes too late and one that is malformed: four answers in one."""
    done, failed = await held(jobs), await held(jobs)
    reports = [
        ({"X-Worker-Id": WORKER, "X-Job-Id": str(done)}, "{}"),
        ({"X-Worker-Id": WORKER, "X-Job-Id": str(failed), "X-Job-Error": "true"}, '{"error": "boom"}'),
        ({"X-Worker-Id": "another-worker", "X-Job-Id": str(failed)}, "{}"),
        ({"X-Job-Id": str(failed)}, "{}"),
    ]
    batch = {"reports": [{"url": "http://x/callback", "headers": sent, "body": body} for sent, body in reports]}
    answer = await callbacks.post("/callbacks", json=batch)
    assert answer.status_code == 200
    replies = answer.json()["replies"]
    assert [reply["status"] for reply in replies] == [200, 200, 409, 400]
    assert replies[0]["content"] == {"workerId": WORKER, "jobId": str(done)}
    assert "X-Worker-Id" in replies[3]["content"]["error"]
    assert await jobs.row(done) is None
    assert (await jobs.until_failed(failed))["last_error"] == "boom"


@pytest.mark.parametrize("body", [b"", b"[]", b'{"reports": [7]}'])
async def test_what_is_no_batch_is_refused(body: bytes, callbacks: httpx.AsyncClient) -> None:
    """400, with what is wrong."""
    answer = await callbacks.post("/callbacks", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("the body is not a batch of reports: ")


async def test_a_report_that_comes_first_decides(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """A function that reports failure and then answers 200 has failed; the response changes nothing after it."""
    gate = function.hold()
    service = await start_service(await serve(function.app))
    job = await jobs.add("t")
    await function.arrived.wait()
    headers = {"X-Worker-Id": WORKER, "X-Job-Id": str(job), "X-Job-Error": "true"}
    async with httpx.AsyncClient(timeout=30) as client:
        await client.post(service.callback_url, headers=headers, json={"error": "reported"})
    gate.set()
    await jobs.until_gone(await jobs.add("another"))
    row = await jobs.until_failed(job)
    assert row["last_error"] == "reported"


async def test_a_report_after_the_response_still_decides_within_the_grace(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """As the Node SDK does it: the response comes first, then the report, and the report counts."""
    service = await start_service(await serve(function.app), report_grace_seconds=60.0)
    job = await jobs.add("t")
    await function.arrived.wait()
    await jobs.until_held(job)
    headers = {"X-Worker-Id": WORKER, "X-Job-Id": str(job), "X-Job-Error": "true"}
    async with httpx.AsyncClient(timeout=30) as client:
        await client.post(service.callback_url, headers=headers, json={"error": "reported late"})
    assert (await jobs.until_failed(job))["last_error"] == "reported late"
