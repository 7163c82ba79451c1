"""jobfn's function app with one task on the payload of the HTTP comparisons."""

from benchmarks.peers.invoice import Invoice
from jobfn import task


@task("process_invoice")
async def process_invoice(payload: Invoice) -> dict[str, int]:
    """Answer with the id."""
    return {"id": payload.id}
