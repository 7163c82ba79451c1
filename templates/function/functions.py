"""The tasks of template-project. Each @task is a handler; what its payload may be is its annotation."""

from decimal import Decimal
from typing import Any

from pydantic import BaseModel, Field

from jobfn import JobContext, PermanentError, task


class Order(BaseModel):
    """The payload: what blueprint.yaml's trigger sends of a row of ``orders``. Other keys are ignored."""

    id: int = Field(description="The order's id")
    total: Decimal = Field(ge=0, description="What it costs")


@task("template_task", timeout=30)
async def handle_order(order: Order, ctx: JobContext) -> dict[str, Any]:
    """Put your work here. What it returns is the job's result; what it raises fails the job, to be tried again."""
    if order.total == 0:
        raise PermanentError(f"order {order.id} costs nothing: there is nothing to do, now or later")
    ctx.log.info("handling an order", order=order.id)
    return {"order": order.id, "total": str(order.total)}
