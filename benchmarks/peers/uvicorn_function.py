"""jobfn's function app on uvicorn's own HTTP protocol. ``PORT`` is its port."""

import os

import uvicorn

from benchmarks.peers import invoice_function
from jobfn import create_app

if __name__ == "__main__":
    uvicorn.run(
        create_app(invoice_function),
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        log_level="warning",
        access_log=False,
    )
