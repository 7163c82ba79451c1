"""A caller of a callback server, or of a function, that wants others to wait or to run out of memory."""

import asyncio
import contextlib
import json
from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx
import pytest
from structlog.testing import capture_logs

from jobfn.worker.callback_app import create_callback_app
from jobfn.worker.callbacks import Callbacks, Reply
from support.attack import StartProduction
from support.fixtures import Serve, StartService
from support.http import request
from support.jobs import Jobs
from support.network import LOOPBACK
from support.secrets import schema_tokens, sign_batch_url

NO_FUNCTION = "http://127.0.0.1:1"


def report(job: int, url: str = "http://h/callback", body: str = "{}") -> dict[str, object]:
    return {"url": url, "headers": {"X-Worker-Id": "w", "X-Job-Id": str(job), "X-Job-Attempt": "1"}, "body": body}


async def test_batch_with_thousands_of_reports_is_refused_as_a_whole(jobs: Jobs, start_service: StartService) -> None:
    service = await start_service(NO_FUNCTION, support_any=False)
    url = sign_batch_url(await schema_tokens(jobs.connection), service.callback_url + "s")
    async with httpx.AsyncClient(timeout=30) as http:
        refused = await http.post(url, json={"reports": [report(job) for job in range(1, 8001)]})
        accepted = await http.post(url, json={"reports": [report(job) for job in range(1, 201)]})
    assert refused.status_code == 400
    assert refused.json()["error"] == (
        "the body is not a batch of reports: a batch must have at most 200 reports, send the others in further ones"
    )
    assert [reply["status"] for reply in accepted.json()["replies"]] == [409] * 200


class Turns(Callbacks):
    """Callbacks that count the reports which they got since the event loop did something else."""

    def __init__(self) -> None:
        self._tokens = None
        self.since_turn = 0
        self.per_turn: list[int] = []

    async def report(self, token: str | None, headers: Mapping[str, str], body: bytes) -> Reply:
        self.since_turn += 1
        return Reply(200, {})

    async def take_turns(self) -> None:
        while True:
            self.per_turn.append(self.since_turn)
            self.since_turn = 0
            await asyncio.sleep(0)


async def test_other_requests_get_their_turn_within_a_batch(serve: Serve) -> None:
    callbacks = Turns()
    url = await serve(create_callback_app(callbacks))
    turns = asyncio.create_task(callbacks.take_turns())
    async with httpx.AsyncClient(timeout=30) as http:
        response = await http.post(f"{url}/callbacks", json={"reports": [report(job) for job in range(200)]})
    turns.cancel()
    assert [reply["status"] for reply in response.json()["replies"]] == [200] * 200
    assert sum(callbacks.per_turn) == 200
    assert max(callbacks.per_turn) <= 100


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://[h/callback", "a report's URL is malformed"),
        ("http://h/" + "x" * 70_000, "a report's URL must have at most 65536 characters"),
    ],
    ids=["malformed", "long"],
)
async def test_malformed_url_in_a_batch_concerns_its_report_alone(
    jobs: Jobs, start_service: StartService, url: str, reason: str
) -> None:
    service = await start_service(NO_FUNCTION, support_any=False)
    batch_url = sign_batch_url(await schema_tokens(jobs.connection), service.callback_url + "s")
    body = json.dumps({"reports": [report(1), report(2, url), report(3)]})
    with capture_logs() as lines:
        async with httpx.AsyncClient(timeout=30) as http:
            response = await http.post(batch_url, content=body)
    replies = response.json()["replies"]
    assert [reply["status"] for reply in replies] == [409, 400, 409]
    assert replies[1]["content"]["error"] == f"{reason}: report to X-Callback-Url of the job's delivery"
    assert not [line for line in lines if "exc_info" in line]


async def test_honest_jobs_run_while_callers_flood_the_servers(start_production: StartProduction) -> None:
    """Batches, signed or not, bodies past the limits, and connections that send half a request."""
    production = await start_production()
    url = production.callback_url
    batch_url = sign_batch_url(await schema_tokens(production.jobs.connection), url + "s")
    batch = json.dumps({"reports": [report(job) | {"body": "{}"} for job in range(1, 201)]})
    too_many = json.dumps({"reports": [report(job) for job in range(1, 8001)]})
    incomplete = request(b"/callback", b"Content-Length: 9", method=b"POST")

    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:

        async def attack() -> None:
            statuses = [
                (await http.post(batch_url, content=batch)).status_code,
                (await http.post(batch_url, content=too_many)).status_code,
                (await http.post(url + "s", content=too_many)).status_code,
                (await http.post(url, content=b"x" * 2_000_000)).status_code,
                (await http.post(f"{production.function_url}/honest", content=b"[" * 100_000)).status_code,
            ]
            assert statuses == [200, 400, 401, 400, 400]
            async with contextlib.AsyncExitStack() as stack:
                for _ in range(50):
                    _, writer = await asyncio.open_connection(LOOPBACK, urlsplit(url).port)
                    stack.callback(writer.close)
                    writer.write(incomplete)
                    await writer.drain()

        await production.withstands(attack)
