"""jobfn's function app with one task, for the HTTP comparisons."""

from benchmarks.peers.invoice import Invoice
from jobfn import task


@task("process_invoice")
async def process_invoice(payload: Invoice) -> dict[str, int]:
    """Return the id."""
    return {"id": payload.id}
