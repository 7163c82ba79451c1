"""Enqueue jobs from your own code, in your own transaction, and wait for their results. Imports no driver.

``enqueue.py`` validates the arguments (``options.py``, ``validation.py``) and builds one statement; ``drivers.py`` runs
it on any supported connection; ``result.py`` waits. ``Task.enqueue`` (``function/task_enqueue.py``) builds on this.
"""

from jobfn.client.connections import AnyAsyncConnection, AnyConnection, SyncConnection
from jobfn.client.enqueue import enqueue, enqueue_many
from jobfn.client.options import BulkJobOptions, JobOptions
from jobfn.client.result import EnqueuedJob, EnqueuedJobs, JobResult, SyncEnqueuedJob

__all__ = [
    "AnyAsyncConnection",
    "AnyConnection",
    "BulkJobOptions",
    "EnqueuedJob",
    "EnqueuedJobs",
    "JobOptions",
    "JobResult",
    "SyncConnection",
    "SyncEnqueuedJob",
    "enqueue",
    "enqueue_many",
]
