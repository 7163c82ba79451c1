"""The pytest plugin that comes with jobfn: ``jobfn_app``, ``jobs_db``, ``drain_jobs``, ``assert_enqueued`` and the clock.

It stands beside the package and not in it, so that a test run that uses none of it imports none of jobfn. Each fixture
is a few lines; what it gives is in ``jobfn/testing``.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from jobfn.testing import AssertEnqueued, FunctionUnderTest, JobsDatabase, JobsServer, RunJobs


@pytest.fixture
def jobfn_app() -> "Callable[..., FunctionUnderTest]":
    """Call tasks as a worker does.

    ``app = jobfn_app(functions)``, then ``await app.deliver("task", payload)``. It takes a module, tasks, or an app
    that ``create_app`` made, and options for ``create_app``.
    """
    from jobfn.testing.app import function_under_test  # noqa: PLC0415  - only who uses it pays for it

    return function_under_test


@pytest.fixture(scope="session")
def jobs_db_setup() -> Any:
    """What each database holds beside the jobs schema: override it, and return SQL, or a path to a file of it.

    It is run once, in the template that the databases are cloned from.
    """
    return None


@pytest.fixture(scope="session")
def jobs_server(jobs_db_setup: Any) -> "Iterator[JobsServer]":
    """The PostgreSQL of this test run: that of ``JOBFN_TEST_DATABASE_URL``, else an embedded one."""
    from jobfn.testing.database import JobsServer  # noqa: PLC0415  - as above

    with JobsServer.started(setup=jobs_db_setup) as server:
        yield server


@pytest.fixture
def jobs_db(jobs_server: "JobsServer") -> "Iterator[JobsDatabase]":
    """A database of this test's own, with an up-to-date jobs schema: ``jobs_db.dsn``, ``await jobs_db.connect()``."""
    with jobs_server.database() as database:
        yield database


@pytest.fixture
def drain_jobs(jobs_db: "JobsDatabase") -> "RunJobs":
    """Work until nothing is due.

    ``outcomes = await drain_jobs(functions)``.
    """
    from jobfn.testing.drain import RunJobs  # noqa: PLC0415  - as above

    return RunJobs(jobs_db)


@pytest.fixture
def assert_enqueued(jobs_db: "JobsDatabase") -> "AssertEnqueued":
    """Fail unless such a job waits: ``assert_enqueued("task", payload={"id": 1})``."""
    from jobfn.testing.asserts import AssertEnqueued  # noqa: PLC0415  - as above

    return AssertEnqueued(jobs_db)


@pytest.fixture
def freeze(jobs_db: "JobsDatabase") -> "Callable[[datetime], None]":
    """Stop this test's clock at a time to come: ``freeze(datetime(2040, 1, 31, 9, tzinfo=UTC))``."""
    return jobs_db.clock.freeze


@pytest.fixture
def advance(jobs_db: "JobsDatabase") -> "Callable[..., timedelta]":
    """Let time pass for this test's jobs and schedules: ``advance(hours=1)``."""
    return jobs_db.clock.advance
