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

from jobfn.client.adding import enqueue, enqueue_many
from jobfn.client.waiting import JobResult
from jobfn.errors import (
    ConfigurationError,
    DatabaseError,
    EnqueueError,
    GraphQLError,
    InvalidPayload,
    JobfnError,
    LoadError,
    NotEnded,
    PermanentError,
    RequestError,
    ResultUnknown,
    RetryLater,
    TaskDefinitionError,
    TransportError,
)
from jobfn.function.app import FunctionApp, create_app
from jobfn.function.context import JobContext
from jobfn.function.resources import Resource
from jobfn.function.retries import Backoff
from jobfn.function.settings import FunctionSettings
from jobfn.function.task import Task, task

__all__ = [
    "Backoff",
    "ConfigurationError",
    "DatabaseError",
    "EnqueueError",
    "FunctionApp",
    "FunctionSettings",
    "GraphQLError",
    "InvalidPayload",
    "JobContext",
    "JobResult",
    "JobfnError",
    "LoadError",
    "NotEnded",
    "PermanentError",
    "RequestError",
    "Resource",
    "ResultUnknown",
    "RetryLater",
    "Task",
    "TaskDefinitionError",
    "TransportError",
    "create_app",
    "enqueue",
    "enqueue_many",
    "task",
]
