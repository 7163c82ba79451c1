"""Functions under test: one for each kind of payload. Only ``fails`` raises."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from jobfn import JobContext, PermanentError, RetryLater, task
from jobfn.payloads import RowChange, RowId


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


def _is_even(value: int) -> int:
    if value % 2:
        raise ValueError(f"{value} is odd")  # the message contains the payload, as users' validators do
    return value


class Address(BaseModel):
    model_config = ConfigDict(extra="forbid")
    street: str = Field(max_length=40)
    zip_code: str = Field(alias="zip", pattern=r"^\d{5}$")


class Order(BaseModel):
    id: UUID
    amount: float
    colour: Colour
    placed: datetime | None = None
    lines: list[Annotated[int, AfterValidator(_is_even)]] = Field(default_factory=list, max_length=50)
    notes: dict[str, str | None] = Field(default_factory=dict)
    ship_to: Address | None = None
    parent: "Order | None" = None
    share: float = Field(default=0.5, ge=0, le=1)


@dataclass
class Point:
    x: float
    y: float


class Options(TypedDict, total=False):
    level: Literal["low", "high"]
    tags: list[str]


@task("order")
async def order(payload: Order, ctx: JobContext) -> dict[str, Any]:
    return {"lines": len(payload.lines), "attempt": ctx.attempt}


@task("shop:row/id")
def row_id(payload: RowId) -> None: ...


@task("change")
async def change(payload: RowChange[dict[str, Any]]) -> int:
    return len(payload.new)


@task("points")
async def points(payload: list[Point]) -> float:
    return sum(point.x for point in payload)


@task("options")
async def options(payload: Options, ctx: JobContext) -> str:
    await ctx.progress(0.5, "half")
    return ctx.idempotency_key


@task("anything")
async def anything(payload: Any) -> bool:
    return payload is not None


@task("nothing")
async def nothing(payload: None) -> None: ...


@task("long", background=True)
async def long(payload: dict[str, Any]) -> None:
    await asyncio.sleep(0)


@task("fails")
async def fails(payload: dict[str, Any]) -> None:
    match len(payload) % 3:
        case 0:
            raise RuntimeError("deliberate")
        case 1:
            raise PermanentError("deliberate")
        case _:
            raise RetryLater("deliberate", seconds=5)
