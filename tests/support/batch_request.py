"""Requests with several jobs for a function app, and the lines of its responses."""

import asyncio
import json
from typing import Any

import httpx

from jobfn import FunctionApp, JobContext, create_app, task
from support.function_app import WAIT_FOR_REPORT

CONTENT_TYPE = "application/x-ndjson"


def batch(*payloads: object, **headers: str) -> bytes:
    """Return a request with these payloads, for jobs 1, 2 and so on; bytes are sent unchanged.

    Args:
        payloads: The payloads.
        headers: Headers of each job by name, with underscores.
    """
    lines: list[bytes] = []
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    for number, payload in enumerate(payloads, start=1):
        own = {"X-Job-Id": str(number), "X-Job-Attempt": "1"} | more
        lines += [json.dumps(own).encode(), payload if isinstance(payload, bytes) else json.dumps(payload).encode()]
    return b"".join(line + b"\n" for line in lines)


def shared_headers(callback_url: str | None = None, **others: str) -> dict[str, str]:
    """Return the headers of a request; others by name, with underscores."""
    headers = {"Content-Type": CONTENT_TYPE, "X-Worker-Id": "worker-7", "X-Settle-On": "response"}
    if callback_url is not None:
        headers["X-Callback-Url"] = callback_url
    return headers | {name.replace("_", "-"): value for name, value in others.items()}


def parse(content: bytes) -> list[dict[str, Any]]:
    """Return the lines of a response without the durations, which are numbers of at least 0."""
    lines = [json.loads(line) for line in content.splitlines()]
    for line in lines:
        assert line.pop("seconds", 0.0) >= 0.0
    return lines


async def run_jobs(http: httpx.AsyncClient, url: str, body: bytes, headers: dict[str, str]) -> list[dict[str, Any]]:
    """Send a batch, as a worker does: the jobs that were not started are sent again. Return a line for each job."""
    lines: dict[str, dict[str, Any]] = {}  # in the order of the jobs
    while body:
        response = await http.post(url, content=body, headers=headers)
        assert (response.status_code, response.headers["content-type"]) == (200, CONTENT_TYPE)
        raw_lines = body.split(b"\n")
        jobs = [(own + b"\n", payload + b"\n") for own, payload in zip(raw_lines[::2], raw_lines[1::2], strict=False)]
        parsed = parse(response.content)
        assert len(parsed) == len(jobs)
        lines = lines or {str(json.loads(own)["X-Job-Id"]): {} for own, _ in jobs}
        lines |= {line["job"]: line for line in parsed}
        waiting = {line["job"] for line in parsed if line.get("started") is False}
        body = b"".join(own + payload for own, payload in jobs if str(json.loads(own).get("X-Job-Id")) in waiting)
    return list(lines.values())


def failed(job: int, status: int, message: str, headers: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    """Return the line of a job that failed."""
    body = json.dumps({"message": message, "code": f"F{status}", **more})
    return {"job": str(job), "status": status, "headers": headers or {"X-Job-Error": "true"}, "body": body}


def done(*jobs: int) -> list[dict[str, Any]]:
    """Return the lines of jobs that succeeded."""
    return [{"job": str(job), "status": 200} for job in jobs]


def not_started(*jobs: int) -> list[dict[str, Any]]:
    """Return the lines of jobs that go back to the worker."""
    return [{"job": str(job), "started": False} for job in jobs]


class Recorder:
    """A task that records its jobs, and waits for ``gate`` for one payload."""

    def __init__(self) -> None:
        self.contexts: list[JobContext] = []
        self.payloads: list[Any] = []
        self.blocked, self.gate = asyncio.Event(), asyncio.Event()

        @task("record")
        async def record(payload: Any, ctx: JobContext) -> str:
            self.contexts.append(ctx)
            self.payloads.append(payload)
            if payload == "block":
                self.blocked.set()
                await self.gate.wait()
            return "result"

        self.task = record

    def app(self, **settings: Any) -> FunctionApp:
        return create_app(tasks=[self.task], settings=WAIT_FOR_REPORT.model_copy(update=settings))
