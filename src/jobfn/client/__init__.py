"""Adding jobs from your own code, in your own transaction, and waiting for their ends. No driver is imported here.

``adding.py`` checks and makes one statement, ``drivers.py`` runs it on whatever connection it is given, ``waiting.py``
waits. ``Task.enqueue`` (``function/enqueueing.py``) is the way in where the function is in reach.
"""

from jobfn.client.connections import AnyAsyncConnection, AnyConnection, SyncConnection
from jobfn.client.enqueue import enqueue, enqueue_many
from jobfn.client.result import EnqueuedJob, JobResult, SyncEnqueuedJob

__all__ = [
    "AnyAsyncConnection",
    "AnyConnection",
    "EnqueuedJob",
    "JobResult",
    "SyncConnection",
    "SyncEnqueuedJob",
    "enqueue",
    "enqueue_many",
]
