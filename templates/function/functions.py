"""The tasks of template-project. A handler's annotation defines its payload."""

from decimal import Decimal
from typing import Any

from pydantic import BaseModel, Field

from jobfn import JobContext, PermanentError, task


class Order(BaseModel):
    """The payload that the trigger in blueprint.yaml sends for a row of ``orders``. Other keys are ignored."""

    id: int = Field(description="The order's id")
    total: Decimal = Field(ge=0, description="The order's total price")


@task("template_task", timeout=30)
async def handle_order(order: Order, ctx: JobContext) -> dict[str, Any]:
    """Handle an order: replace this with your work.

    The return value is the job's result. An exception fails the job, which is then retried.
    """
    if order.total == 0:
        raise PermanentError(f"order {order.id} has a total of 0: there is nothing to charge")
    ctx.log.info("handling order", order=order.id)
    return {"order": order.id, "total": str(order.total)}
