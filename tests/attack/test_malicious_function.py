"""A function that attacks the worker that calls it, and the jobs of other functions."""

import asyncio
import contextlib
import itertools
from collections import Counter

import asyncpg
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from support.attack import StartProduction
from support.fixtures import Serve, StartService
from support.jobs import Jobs
from support.network import LOOPBACK, eventually

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


OK = b"HTTP/1.1 200 OK\r\n"
#: Responses that are not a result, or a hostile one.
ANSWERS = (
    OK + b"X-Long: y\r\n" * 5000,
    OK + b"Content-Length: 7\r\nX-Settle-On: response\r\n\r\n[1e400]",
    OK + b"Content-Length: 2000000\r\n\r\n" + b"x" * 2_000_000,
    b"HTTP/1.1 500 Failed\r\nContent-Length: 1000015\r\n\r\n" + b'{"message": "%s"}' % (b"m" * 1_000_000),
    b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 1000,
    OK + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    OK + b"X-Job-Id: 1\r\nContent-Length: 4\r\n\r\nnull" + OK + b"X-Job-Id: 2\r\nContent-Length: 4\r\n\r\nnull",
    b"HTTP/1.1 307 Moved\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n",
    b"",
)


async def test_honest_jobs_run_while_a_function_answers_with_anything(
    start_production: StartProduction, pool: asyncpg.Pool
) -> None:
    answers = itertools.cycle(ANSWERS)

    async def serve_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(next(answers))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve_connection, LOOPBACK, 0)
    production = await start_production(evil=f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}")

    async def attack() -> None:
        add = "select (app_jobs.add_job('evil', max_attempts := 1)).id from generate_series(1, 5)"
        added = [row["id"] for row in await pool.fetch(add)]
        waiting = "select not exists (select from app_jobs.jobs where id = any ($1) and not exhausted)"
        await eventually(lambda: pool.fetchval(waiting, added), seconds=60)

    await production.withstands(attack)
    server.close()
