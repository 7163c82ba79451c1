"""jobfn: put work behind a database row.

::

    from jobfn import JobContext, task
    from jobfn.payloads import RowId

    @task("process_invoice")
    async def process_invoice(payload: RowId, ctx: JobContext) -> dict:
        ctx.log.info("charging", invoice=payload.id)
        return {"charged": True}

``jobfn dev functions.py`` runs it. The way from a row to this handler is drawn in ``docs/architecture.md``.
"""

from jobfn.errors import (
    ConfigurationError,
    DatabaseError,
    JobfnError,
    LoadError,
    PermanentError,
    RequestError,
    RetryLater,
    TaskDefinitionError,
    TransportError,
)
from jobfn.function.app import FunctionApp, create_app
from jobfn.function.context import JobContext
from jobfn.function.retries import Backoff
from jobfn.function.settings import FunctionSettings
from jobfn.function.task import Task, task

__all__ = [
    "Backoff",
    "ConfigurationError",
    "DatabaseError",
    "FunctionApp",
    "FunctionSettings",
    "JobContext",
    "JobfnError",
    "LoadError",
    "PermanentError",
    "RequestError",
    "RetryLater",
    "Task",
    "TaskDefinitionError",
    "TransportError",
    "create_app",
    "task",
]
