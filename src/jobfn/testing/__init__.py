"""What users import in their tests, beside the fixtures of the pytest plugin (``jobfn_pytest.py``).

``app.py`` calls tasks as a worker does, ``database.py`` makes databases, ``drain.py`` works a queue off in this
process with the real worker, ``asserts.py`` looks into it, ``clock.py`` lets time pass. Each is imported when it is
asked for: ``app.py`` needs no database driver, and a function's project need not install one to test deliveries.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobfn.testing.app import DeliveryResult, FunctionUnderTest, function_under_test
    from jobfn.testing.asserts import AssertEnqueued
    from jobfn.testing.clock import JobsClock
    from jobfn.testing.database import JobsDatabase, JobsServer
    from jobfn.testing.drain import Ended, RunJobs

__all__ = [
    "AssertEnqueued",
    "DeliveryResult",
    "Ended",
    "FunctionUnderTest",
    "JobsClock",
    "JobsDatabase",
    "JobsServer",
    "RunJobs",
    "function_under_test",
]

_LAZY_EXPORTS = {
    "app": ("DeliveryResult", "FunctionUnderTest", "function_under_test"),
    "asserts": ("AssertEnqueued",),
    "clock": ("JobsClock",),
    "database": ("JobsDatabase", "JobsServer"),
    "drain": ("Ended", "RunJobs"),
}


def __getattr__(name: str) -> Any:
    for module, names in _LAZY_EXPORTS.items():
        if name in names:
            return getattr(importlib.import_module(f"jobfn.testing.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
