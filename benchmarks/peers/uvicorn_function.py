"""jobfn's function app on uvicorn alone, as any ASGI app is served, without our own protocol. ``PORT`` says where."""

import os

import uvicorn

from benchmarks.peers import invoice_function
from jobfn.function.app import create_app

if __name__ == "__main__":
    uvicorn.run(
        create_app(invoice_function),
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        log_level="warning",
        access_log=False,
    )
