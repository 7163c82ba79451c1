"""Fulfil orders as a durable function: charge, wait for an approval, print labels, send a receipt.

::

    FULFILMENT_DRY_RUN=true jobfn dev functions.py
    psql -f schema.sql
    jobfn triggers apply blueprint.yaml

``fulfil_order`` is the durable function. ``charge_card``, ``refund_charge`` and the task ``print_label`` call partners
over HTTP. README.md lists the environment variables.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

import httpx
from pydantic import BaseModel

from jobfn import ChildFailed, ConfigurationError, JobContext, PermanentError, WaitTimeout, task

APPROVAL_TIMEOUT = timedelta(days=3)
#: Timeout of one request to a partner.
REQUEST_TIMEOUT_SECONDS = 30.0
BOOLEANS = {"": False, "false": False, "true": True}


class Order(BaseModel):
    """The payload of ``fulfil_order``: a row of the table ``orders``."""

    id: int
    email: str
    card: str
    cents: int
    items: list[str]


class Charge(BaseModel):
    id: str
    cents: int


class Approval(BaseModel):
    """The payload of the signal ``approved``."""

    by: str


class Label(BaseModel):
    order: int
    item: str


class Receipt(BaseModel):
    order: int
    email: str
    status: Literal["shipped", "refunded"]
    lines: list[str]


@task("fulfil_order")
async def fulfil_order(order: Order, ctx: JobContext) -> str:
    """Charge the card, ship the order when it is approved, and refund the charge if it cannot be shipped."""
    charge = await ctx.step("charge", charge_card, order, ctx)
    try:
        approval = await ctx.wait_for("approved", timeout=APPROVAL_TIMEOUT, payload_type=Approval)
        ctx.log.info("order approved", order=order.id, by=approval.by)
        labels = await ctx.gather(*(ctx.call(print_label, Label(order=order.id, item=item)) for item in order.items))
    except (WaitTimeout, ChildFailed) as error:
        ctx.log.warning("order refunded", order=order.id, reason=str(error))
        await ctx.step("refund", refund_charge, charge, ctx)
        ctx.then(send_receipt, Receipt(order=order.id, email=order.email, status="refunded", lines=[]))
        return "refunded"
    ctx.then(send_receipt, Receipt(order=order.id, email=order.email, status="shipped", lines=labels))
    return "shipped"


@task("print_label", max_attempts=5)
async def print_label(label: Label, ctx: JobContext) -> str:
    """Order a shipping label, and return its tracking number."""
    answer = await call_partner(ctx, "CARRIER_URL", "labels", label.model_dump())
    return str(answer["tracking"])


@task("send_receipt")
async def send_receipt(receipt: Receipt, ctx: JobContext) -> str:
    """Log the receipt. A real one is a job for examples/send_email."""
    ctx.log.info("receipt sent", order=receipt.order, status=receipt.status)
    return "\n".join([f"Order {receipt.order}: {receipt.status}", *receipt.lines])


async def charge_card(order: Order, ctx: JobContext) -> Charge:
    answer = await call_partner(ctx, "BANK_URL", "charges", {"card": order.card, "cents": order.cents})
    return Charge(id=answer["id"], cents=order.cents)


async def refund_charge(charge: Charge, ctx: JobContext) -> str:
    answer = await call_partner(ctx, "BANK_URL", "refunds", {"charge": charge.id, "cents": charge.cents})
    return str(answer["id"])


async def call_partner(ctx: JobContext, variable: str, path: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """POST to a partner and return its answer.

    The idempotency key is the same in every attempt, so a step that runs twice charges once.

    Raises:
        PermanentError: The partner refuses the request, for example because the card is declined.
        httpx.HTTPError: The partner does not answer, or is broken. The job is retried.
    """
    key = f"{ctx.idempotency_key}:{path}"
    if is_dry_run(ctx.env):
        ctx.log.info("dry run: request not sent", path=path)
        return {"id": f"dry-{path}-{ctx.job_id}", "tracking": f"dry-{ctx.job_id}"}
    base_url = ctx.env.get(variable)
    if not base_url:
        raise ConfigurationError(f"{variable} is not set: set it to the partner's URL, or set FULFILMENT_DRY_RUN=true")
    async with httpx.AsyncClient(timeout=REQUEST_TIMEOUT_SECONDS) as client:
        response = await client.post(f"{base_url}/{path}", json=content, headers={"Idempotency-Key": key})
    if 400 <= response.status_code < 500:
        raise PermanentError(f"{path}: {response.json()['error']}")
    response.raise_for_status()
    answer: dict[str, Any] = response.json()
    return answer


def is_dry_run(env: Mapping[str, str]) -> bool:
    """Return ``FULFILMENT_DRY_RUN``. Another value is an error, so that a typo does not charge a card.

    Raises:
        ConfigurationError: The value is not a boolean.
    """
    value = env.get("FULFILMENT_DRY_RUN", "")
    try:
        return BOOLEANS[value.strip().lower()]
    except KeyError:
        raise ConfigurationError(f"FULFILMENT_DRY_RUN={value!r} is not a boolean: use true or false") from None
