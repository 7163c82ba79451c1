"""Steps, sleeps, signals and children of durable functions, end to end."""

import asyncio
from typing import Any

from pydantic import BaseModel

from integration.durable.conftest import StartTasks
from jobfn import JobContext, task
from support.jobs import Jobs


class Charge(BaseModel):
    id: int


async def test_steps_are_not_run_again_after_a_failure(jobs: Jobs, start_tasks: StartTasks) -> None:
    calls: list[str] = []

    async def charge(order: int) -> Charge:
        calls.append(f"charge {order}")
        return Charge(id=order)

    def mail(charge: Charge) -> None:
        calls.append(f"mail {charge.id}")
        if len(calls) == 2:
            raise ValueError("the mail server is away")

    @task("fulfil")
    async def fulfil(order: int, ctx: JobContext) -> None:
        charged = await ctx.step("charge", charge, order)
        assert isinstance(charged, Charge)
        await ctx.step("mail", mail, charged)

    await start_tasks(fulfil)
    job_id = await jobs.add("fulfil", 7)
    await jobs.until_failed(job_id)
    await jobs.connection.execute("select app_jobs.run_jobs_now(array[$1::bigint])", job_id)
    await jobs.until_gone(job_id)
    assert calls == ["charge 7", "mail 7", "mail 7"]
    assert await jobs.connection.fetchval("select count(*) from app_jobs.job_steps") == 0


async def test_run_parks_until_signal_and_child_end(jobs: Jobs, start_tasks: StartTasks) -> None:
    receipts: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    @task("print_label")
    async def print_label(item: int) -> dict[str, int]:
        return {"label": item * 10}

    @task("send_receipt")
    async def send_receipt(payload: dict[str, Any]) -> None:
        receipts.put_nowait(payload)

    @task("fulfil")
    async def fulfil(order: int, ctx: JobContext) -> None:
        await ctx.sleep(0.01)
        approval = await ctx.wait_for("approved")
        labels = await ctx.gather(*(ctx.call(print_label, item) for item in range(3)))
        one = await ctx.call("print_label", 7)
        ctx.then("send_receipt", {"labels": labels, "one": one, "by": approval["by"]})

    await start_tasks(fulfil, print_label, send_receipt)
    job_id = await jobs.add("fulfil", 7, job_key="order-7")
    while not await jobs.connection.fetchval(
        "select 1 from app_jobs.jobs where id = $1 and run_at = 'infinity'", job_id
    ):
        await jobs.until_parked(job_id)
    assert await jobs.connection.fetchval("""select app_jobs.signal('order-7', 'approved', '{"by": "ada"}')""")
    await jobs.until_gone(job_id)
    async with asyncio.timeout(10):
        receipt = await receipts.get()
    assert receipt == {"labels": [{"label": 0}, {"label": 10}, {"label": 20}], "one": {"label": 70}, "by": "ada"}
