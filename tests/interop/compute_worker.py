"""A small worker that behaves as the platform's newer one, the "compute worker", as its sources are in June 2026.

It settles each job by the response: any status below 400 is success, and the JSON body is the result. It records an
invocation for each request. A node of a flow graph gets the inputs of its payload as the body; afterwards the worker
calls ``complete_node`` or ``fail_node`` and completes the job in both cases. Written after contract, section 6, and
the platform's sources.
"""

import json
from typing import Any

import asyncpg
import httpx

WORKER_ID = "compute-worker-0"
#: Tables and functions that the platform's own modules provide.
GRAPH_SCHEMA = """
    create schema compute;
    create table compute.invocations (
        id uuid primary key default gen_random_uuid(), task_identifier text, job_id text, status text default 'running',
        result jsonb, error text
    );
    create table compute.nodes (execution_id uuid, node_name text, output jsonb, error text);
    create function compute.complete_node(execution_id uuid, node_name text, output jsonb) returns void language sql as
        'insert into compute.nodes (execution_id, node_name, output) values ($1, $2, $3)';
    create function compute.fail_node(execution_id uuid, node_name text, code text, message text) returns void
        language sql as 'insert into compute.nodes (execution_id, node_name, error) values ($1, $2, $4)';
"""


class ComputeWorker:
    """The worker.

    Args:
        connection: The database.
        http: Sends requests.
        urls: The URL of each function by its name. The platform reads it from ``function_definitions``.
        callback_url: ``COMPUTE_CALLBACK_URL``; None: not set.
    """

    def __init__(
        self,
        connection: "asyncpg.Connection[Any]",
        http: httpx.AsyncClient,
        urls: dict[str, str],
        *,
        callback_url: str | None = None,
    ) -> None:
        self._connection = connection
        self._http = http
        self._urls = urls
        self._callback_url = callback_url

    async def run_next(self) -> int:
        """Run the next ready job and settle it. Return its id."""
        job = await self._connection.fetchrow("select * from app_jobs.get_job($1, null)", WORKER_ID)
        assert job["id"] is not None, "no job is ready"
        error = await self._run(job)
        if error is None:
            await self._connection.execute("select app_jobs.complete_job($1, $2)", WORKER_ID, job["id"])
        else:
            await self._connection.execute("select app_jobs.fail_job($1, $2, $3)", WORKER_ID, job["id"], error)
        job_id: int = job["id"]
        return job_id

    async def _run(self, job: asyncpg.Record) -> str | None:
        """Call the function. Return why the job failed, or None."""
        payload = json.loads(job["payload"])
        node = payload if {"execution_id", "node_name", "node_type", "inputs"} <= payload.keys() else None
        invocation_id = await self._connection.fetchval(
            "insert into compute.invocations (task_identifier, job_id) values ($1, $2) returning id",
            job["task_identifier"],
            str(job["id"]),
        )
        response = await self._http.post(
            self._urls[job["task_identifier"] if node is None else node["node_type"]],
            content=json.dumps(payload if node is None else node["inputs"]),
            headers=self._headers(job, invocation_id, node),
        )
        is_success = response.status_code < 400
        error = None if is_success else f"HTTP {response.status_code}: {response.text}"
        await self._connection.execute(
            "update compute.invocations set status = $2, result = $3, error = $4 where id = $1",
            invocation_id,
            "completed" if is_success else "failed",
            response.text if is_success else None,
            error,
        )
        if node is None:
            return error
        if is_success:
            call, last = "select compute.complete_node($1, $2, $3)", response.text
        else:
            call, last = "select compute.fail_node($1, $2, 'NODE_EXECUTION_FAILED', $3)", str(error)
        await self._connection.execute(call, node["execution_id"], node["node_name"], last)
        return None

    def _headers(self, job: asyncpg.Record, invocation_id: object, node: dict[str, Any] | None) -> dict[str, str]:
        optional = {
            "X-Database-Id": job["database_id"],
            "X-Actor-Id": job.get("actor_id"),
            "X-Entity-Id": job.get("entity_id"),
            "X-Organization-Id": job.get("organization_id"),
            "X-Callback-Url": self._callback_url,
            "X-Execution-Id": node and node["execution_id"],
            "X-Node-Name": node and node["node_name"],
        }
        return {
            "Content-Type": "application/json",
            "X-Worker-Id": WORKER_ID,
            "X-Job-Id": str(job["id"]),
            "X-Invocation-Id": str(invocation_id),
        } | {name: str(value) for name, value in optional.items() if value is not None}
