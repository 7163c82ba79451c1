"""A function app with the tasks of ``test_compute_worker.py``."""

import asyncio
from typing import Any

from pydantic import BaseModel

from jobfn import JobContext, PermanentError, task


class Numbers(BaseModel):
    a: int
    b: int


@task("note")
def note(payload: dict[str, Any], ctx: JobContext) -> dict[str, Any]:
    return {"noted": payload["id"], "organization": str(ctx.organization_id)}


@task("fail")
def fail(payload: dict[str, Any]) -> None:
    raise PermanentError("boom")


@task("render", background=True)
async def render(payload: dict[str, Any]) -> dict[str, Any]:
    await asyncio.sleep(0)
    if payload.get("fail"):
        raise RuntimeError("no frames")
    return {"rendered": payload["id"]}


@task("add")
def add(payload: Numbers, ctx: JobContext) -> dict[str, Any]:
    if payload.a < 0:
        raise ValueError("a is negative")
    return {"result": payload.a + payload.b, "execution": str(ctx.execution_id), "node": ctx.node_name}
