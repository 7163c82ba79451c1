"""What users import in their tests, beside the fixtures of the pytest plugin (``jobfn_pytest.py``).

``app.py`` calls tasks as a worker does, ``database.py`` makes databases, ``drain.py`` works a queue off in this
process with the real worker, ``asserts.py`` looks into it, ``clock.py`` lets time pass.
"""

from jobfn.testing.app import Delivered, FunctionUnderTest, function_under_test
from jobfn.testing.asserts import AssertEnqueued
from jobfn.testing.clock import JobsClock
from jobfn.testing.database import JobsDatabase, JobsServer
from jobfn.testing.drain import Ended, RunJobs

__all__ = [
    "AssertEnqueued",
    "Delivered",
    "Ended",
    "FunctionUnderTest",
    "JobsClock",
    "JobsDatabase",
    "JobsServer",
    "RunJobs",
    "function_under_test",
]
