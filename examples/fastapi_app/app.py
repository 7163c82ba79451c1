"""A FastAPI app with its own routes, and job functions at ``/jobs``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from pydantic import BaseModel

from jobfn import JobContext, create_app, task


class Receipt(BaseModel):
    id: int
    total: float


#: Receipts that a job has made, by id. A real app has a database.
RECEIPTS: dict[int, Receipt] = {}


@task("make_receipt")
async def make_receipt(payload: Receipt, ctx: JobContext) -> dict[str, int]:
    """Make a receipt."""
    RECEIPTS[payload.id] = payload
    ctx.log.info("receipt made", receipt=payload.id)
    return {"receipt": payload.id}


jobs = create_app(tasks=[make_receipt])


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Run the lifespan of the mounted app, which FastAPI does not do by itself."""
    async with jobs.lifespan_context():
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/jobs", jobs)


@app.get("/receipts")
async def list_receipts() -> list[Receipt]:
    """Return the receipts that jobs have made."""
    return list(RECEIPTS.values())
