"""A function that attacks the worker that calls it, and the jobs of other functions."""

from collections import Counter

import asyncpg
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from support.fixtures import Serve, StartService
from support.jobs import Jobs
from support.network import eventually

HEADERS = {"X-Settle-On": "response", "X-Keep-Result-Seconds": "60"}


@pytest.mark.parametrize(
    "body", [b"[1e400]", b"[-1e400]", b"NaN", b'"\\u0000"', b'"\\ud800"', b'"\xff"', b"[" * 5000, b'{"a":1,"a":2}']
)
async def test_poisonous_result_concerns_its_job_alone(
    jobs: Jobs, serve: Serve, start_service: StartService, connection: asyncpg.Connection, body: bytes
) -> None:
    deliveries: Counter[str] = Counter()

    async def respond(request: Request) -> Response:
        deliveries[request.headers["X-Job-Id"]] += 1
        is_evil = request.scope["path"] == "/evil"
        return Response(body if is_evil else b'"fine"', headers=HEADERS, media_type="application/json")

    url = await serve(Starlette(routes=[Route("/{path:path}", respond, methods=["POST"])]))
    await connection.execute(
        "select app_jobs.add_job(task) from unnest(array['honest', 'evil']) task, generate_series(1, 50)"
    )
    await start_service(url)

    async def all_done() -> bool:
        return await jobs.count() == 0

    await eventually(all_done)
    assert set(deliveries.values()) == {1}
    assert len(deliveries) == 100
    stored = "select count(*) from app_jobs.job_results where result::text = '\"fine\"'"
    assert await connection.fetchval(stored) == 50
