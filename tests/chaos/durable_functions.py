"""Durable handlers of a chaos run. Each execution appends lines to a file, which is outside of jobfn."""

import asyncio
import json
import os
import random
import time
import uuid
from dataclasses import dataclass
from typing import Any

from jobfn import Backoff, JobContext, create_app, task

#: Open for appending, which processes can do at the same time.
_EVENTS = os.open(os.environ["CHAOS_EVENTS_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
_BACKOFF = Backoff(seconds=0.1, factor=1.5, cap=1.0)
#: Maximum time that a step takes.
_STEP_SECONDS = 0.05


@dataclass
class Order:
    """Payload of a run."""

    number: int


@dataclass
class Label:
    """Payload of a child."""

    number: int
    item: int


def log(event: str, number: int, name: str, ctx: JobContext, value: object = None) -> None:
    """Append a line."""
    line = {"event": event, "number": number, "name": name, "value": value}
    origin = {"job": ctx.job_id, "attempt": ctx.attempt, "worker": ctx.worker_id, "at": time.time()}
    os.write(_EVENTS, f"{json.dumps(line | origin)}\n".encode())


async def run_step(number: int, name: str, ctx: JobContext) -> str:
    """Return a value that no other execution has."""
    value = uuid.uuid4().hex
    log("executed", number, name, ctx, value)
    await asyncio.sleep(random.uniform(0, _STEP_SECONDS))  # noqa: S311  - not secret
    return value


@task("fulfil", backoff=_BACKOFF)
async def fulfil(order: Order, ctx: JobContext) -> None:
    """Run five steps with a sleep, a signal and two children among them."""

    async def step(name: str) -> None:
        log("returned", order.number, name, ctx, await ctx.step(name, run_step, order.number, name, ctx))

    await step("reserve")
    await ctx.sleep(0.05)
    await step("charge")
    log("waits", order.number, "approved", ctx)
    log("returned", order.number, "approved", ctx, await ctx.wait_for("approved"))
    await step("pack")
    labels = await ctx.gather(*(ctx.call("print_label", {"number": order.number, "item": item}) for item in (1, 2)))
    log("returned", order.number, "labels", ctx, labels)
    await step("ship")
    await step("close")
    ctx.then("send_receipt", {"number": order.number})


@task("print_label", backoff=_BACKOFF)
async def print_label(label: Label) -> dict[str, Any]:
    """Return a value that no other execution has."""
    return {"item": label.item, "value": uuid.uuid4().hex}


@task("send_receipt", backoff=_BACKOFF)
async def send_receipt(order: Order, ctx: JobContext) -> None:
    """Record that a run has completed."""
    log("receipt", order.number, "receipt", ctx)


app = create_app(tasks=[fulfil, print_label, send_receipt])
