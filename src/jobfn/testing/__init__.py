"""Types of the pytest plugin's fixtures (``jobfn_pytest.py``).

``app.py`` calls tasks as a worker does, ``database.py`` creates databases, ``drain.py`` runs jobs in this process with
the real worker, ``asserts.py`` checks the queue, ``clock.py`` is the clock of a test. Each is imported on first use:
``app.py`` needs no database driver.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobfn.testing.app import DeliveryResult, FunctionUnderTest, function_under_test
    from jobfn.testing.asserts import AssertEnqueued
    from jobfn.testing.clock import JobsClock
    from jobfn.testing.database import JobsDatabase, JobsServer
    from jobfn.testing.drain import DrainJobs, JobRun
    from jobfn.testing.memory_steps import RecordedStep

__all__ = [
    "AssertEnqueued",
    "DeliveryResult",
    "DrainJobs",
    "FunctionUnderTest",
    "JobRun",
    "JobsClock",
    "JobsDatabase",
    "JobsServer",
    "RecordedStep",
    "function_under_test",
]

_LAZY_EXPORTS = {
    "AssertEnqueued": "asserts",
    "DeliveryResult": "app",
    "DrainJobs": "drain",
    "FunctionUnderTest": "app",
    "JobRun": "drain",
    "JobsClock": "clock",
    "JobsDatabase": "database",
    "JobsServer": "database",
    "RecordedStep": "memory_steps",
    "function_under_test": "app",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY_EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"jobfn.testing.{_LAZY_EXPORTS[name]}"), name)
