"""A bare Starlette route with the same payload, on uvicorn. ``PORT`` is its port."""

import os

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from benchmarks.peers.invoice import Invoice


async def process_invoice(request: Request) -> JSONResponse:
    """Return the id."""
    invoice = Invoice.model_validate_json(await request.body())
    return JSONResponse({"id": invoice.id})


app = Starlette(routes=[Route("/process_invoice", process_invoice, methods=["POST"])])

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning", access_log=False)
