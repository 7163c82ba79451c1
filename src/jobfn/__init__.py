"""jobfn: Python functions as background jobs, queued in PostgreSQL.

::

    from jobfn import JobContext, task
    from jobfn.payloads import RowId

    @task("process_invoice")
    async def process_invoice(payload: RowId, ctx: JobContext) -> dict:
        ctx.log.info("charging", invoice=payload.id)
        return {"charged": True}

``jobfn dev functions.py`` runs it. ``docs/architecture.md`` shows how a job travels from its row to the handler.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobfn.client.enqueue import enqueue, enqueue_many
    from jobfn.client.options import BulkJobOptions, JobOptions
    from jobfn.client.result import JobResult
    from jobfn.errors import (
        ChildFailed,
        ConfigurationError,
        DatabaseError,
        DuplicateJob,
        DurableError,
        EnqueueError,
        GraphQLError,
        InvalidPayload,
        JobCancelled,
        JobExpired,
        JobfnError,
        LoadError,
        PermanentError,
        RequestError,
        ResultTimeout,
        ResultUnavailable,
        RetryLater,
        StepFailed,
        TaskDefinitionError,
        TransportError,
        WaitTimeout,
    )
    from jobfn.function.app import FunctionApp, create_app
    from jobfn.function.context import JobContext
    from jobfn.function.dependencies import Resource
    from jobfn.function.retry_policy import Backoff, RetryPolicy
    from jobfn.function.schedule import Schedule
    from jobfn.function.settings import FunctionSettings
    from jobfn.function.task import Task, task
    from jobfn.settings import Requirement

    __version__: str

__all__ = [
    "Backoff",
    "BulkJobOptions",
    "ChildFailed",
    "ConfigurationError",
    "DatabaseError",
    "DuplicateJob",
    "DurableError",
    "EnqueueError",
    "FunctionApp",
    "FunctionSettings",
    "GraphQLError",
    "InvalidPayload",
    "JobCancelled",
    "JobContext",
    "JobExpired",
    "JobOptions",
    "JobResult",
    "JobfnError",
    "LoadError",
    "PermanentError",
    "RequestError",
    "Requirement",
    "Resource",
    "ResultTimeout",
    "ResultUnavailable",
    "RetryLater",
    "RetryPolicy",
    "Schedule",
    "StepFailed",
    "Task",
    "TaskDefinitionError",
    "TransportError",
    "WaitTimeout",
    "create_app",
    "enqueue",
    "enqueue_many",
    "task",
]

#: Modules of the exports, imported on first use: a program that only enqueues does not load the server, and a function
#: that never enqueues does not load the client.
_LAZY_EXPORTS = {
    name: f"jobfn.{module}"
    for module, names in {
        "client.enqueue": "enqueue enqueue_many",
        "client.options": "BulkJobOptions JobOptions",
        "client.result": "JobResult",
        "errors": "ChildFailed ConfigurationError DatabaseError DuplicateJob DurableError EnqueueError GraphQLError "
        "InvalidPayload JobCancelled JobExpired JobfnError LoadError PermanentError RequestError ResultTimeout "
        "ResultUnavailable RetryLater StepFailed TaskDefinitionError TransportError WaitTimeout",
        "function.app": "FunctionApp create_app",
        "function.context": "JobContext",
        "function.dependencies": "Resource",
        "function.retry_policy": "Backoff RetryPolicy",
        "function.schedule": "Schedule",
        "function.settings": "FunctionSettings",
        "function.task": "Task task",
        "settings": "Requirement",
    }.items()
    for name in names.split()
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("jobfn")
    if name not in _LAZY_EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_LAZY_EXPORTS[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
