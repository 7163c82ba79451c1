"""The tasks of the blueprints in this folder.

`jobfn triggers check` compares their annotations with the payloads of the triggers:

    jobfn triggers check functions.py parameters/*.yaml
"""

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from jobfn import JobContext, task
from jobfn.payloads import Row, RowChange, RowId


class Strict(BaseModel):
    """Rejects unknown fields, so that the check finds fields that a trigger sends in excess."""

    model_config = ConfigDict(extra="forbid")


class Article(Strict):
    id: int
    title: str
    status: str
    views: int


class Contact(Strict):
    id: UUID
    email: str
    first_name: str
    last_name: str | None
    last_seen_at: datetime | None


class Document(Strict):
    id: UUID
    title: str
    labels: list[str | None]
    content: dict[str, Any] | list[Any] | None
    created_at: datetime


# --- parameters/


@task("process_invoice")
async def process_invoice(payload: RowId, ctx: JobContext) -> None:
    ctx.log.info("processing", invoice=payload.id)


@task("bill_order")
async def bill_order(payload: RowId, ctx: JobContext) -> None:
    ctx.log.info("billing", order=payload.id, entity=ctx.entity_id)


@task("index_message")
async def index_message(payload: RowId, ctx: JobContext) -> None:
    ctx.log.info("indexing", message=payload.id, entity=ctx.entity_id)


@task("index_article")
async def index_article(payload: Row[Article], ctx: JobContext) -> None:
    ctx.log.info("indexing", title=payload.row.title)


class PrintedInvoice(Strict):
    id: UUID
    amount: Decimal
    is_rush: bool
    note: str | None


@task("print_invoice")
async def print_invoice(payload: PrintedInvoice, ctx: JobContext) -> None:
    ctx.log.info("printing", amount=str(payload.amount))


class Booking(Strict):
    invoice_id: UUID
    total: float


@task("book_invoice")
async def book_invoice(payload: Booking, ctx: JobContext) -> None:
    ctx.log.info("booking", total=payload.total)


@task("forget_invoice")
async def forget_invoice(payload: RowId, ctx: JobContext) -> None:
    ctx.log.info("forgetting", invoice=payload.id)


@task("send_invoice")
async def send_invoice(payload: RowId, ctx: JobContext) -> None:
    ctx.log.info("sending", invoice=payload.id)


@task("hurry")
async def hurry(payload: RowId, ctx: JobContext) -> None:
    ctx.log.info("hurrying", invoice=payload.id)


@task("review_order")
async def review_order(payload: RowId, ctx: JobContext) -> None:
    ctx.log.info("reviewing", order=payload.id)


@task("compare_article")
async def compare_article(payload: RowChange[Article], ctx: JobContext) -> None:
    ctx.log.info("changed", before=payload.old.status, after=payload.new.status)


class Views(Strict):
    views: int
    old: Article


@task("note_views")
async def note_views(payload: Views, ctx: JobContext) -> None:
    ctx.log.info("viewed", new_views=payload.views - payload.old.views)


@task("log_change")
async def log_change(payload: RowId, ctx: JobContext) -> None:
    if payload.meta is not None:
        ctx.log.info("changed", table=payload.meta.table, change=payload.meta.event)


@task("count_views")
async def count_views(payload: RowId, ctx: JobContext) -> None:
    ctx.log.info("counting", up_to=payload.id)


@task("post_order")
async def post_order(payload: RowId, ctx: JobContext) -> None:
    ctx.log.info("posting", order=payload.id)


@task("confirm_order")
async def confirm_order(payload: RowId, ctx: JobContext) -> None:
    ctx.log.info("confirming", order=payload.id)


@task("remind")
async def remind(payload: RowId, ctx: JobContext) -> None:
    ctx.log.info("reminding", order=payload.id)


@task("charge_order")
async def charge_order(payload: RowId, ctx: JobContext) -> None:
    ctx.log.info("charging", order=payload.id)


# --- patterns/


class Invite(Strict):
    id: UUID
    email: str
    role: str


@task("send_invite_email")
async def send_invite_email(payload: Invite, ctx: JobContext) -> None:
    ctx.log.info("inviting", role=payload.role)


class StripeInvoice(Strict):
    id: UUID
    amount: Decimal
    currency: str
    status: str


@task("sync_to_stripe")
async def sync_to_stripe(payload: StripeInvoice, ctx: JobContext) -> None:
    ctx.log.info("syncing", invoice=str(payload.id))


@task("publish_article")
async def publish_article(payload: RowId, ctx: JobContext) -> None:
    ctx.log.info("publishing", article=payload.id)


class Announcement(Strict):
    article_id: int
    headline: str


@task("announce_article")
async def announce_article(payload: Announcement, ctx: JobContext) -> None:
    ctx.log.info("announcing", headline=payload.headline)


@task("audit_document")
async def audit_document(payload: Row[Document], ctx: JobContext) -> None:
    ctx.log.info("deleted", title=payload.row.title)


@task("aggregate_views")
async def aggregate_views(payload: RowId, ctx: JobContext) -> None:
    ctx.log.info("aggregating", up_to=payload.id)


class Webhook(Strict):
    order_id: int
    total_amount: Decimal
    customer: UUID
    event_type: Literal["new", "paid", "shipped"]


@task("dispatch_webhook")
async def dispatch_webhook(payload: Webhook, ctx: JobContext) -> None:
    ctx.log.info("calling", order=payload.order_id)


@task("sync_contact")
async def sync_contact(payload: RowId, ctx: JobContext) -> None:
    ctx.log.info("syncing", contact=payload.id)


@task("send_welcome")
async def send_welcome(payload: RowId, ctx: JobContext) -> None:
    ctx.log.info("welcoming", contact=payload.id)


@task("audit_contact")
async def audit_contact(payload: RowChange[Contact], ctx: JobContext) -> None:
    ctx.log.info("changed", before=payload.old.email, after=payload.new.email)


@task("forget_contact")
async def forget_contact(payload: Row[Contact], ctx: JobContext) -> None:
    ctx.log.info("forgetting", contact=str(payload.row.id))
