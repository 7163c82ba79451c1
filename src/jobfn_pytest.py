"""Pytest plugin: ``jobfn_app``, ``jobs_db``, ``drain_jobs``, ``assert_enqueued`` and ``jobs_clock``.

It is not in the package ``jobfn``, and each fixture imports what it needs (``jobfn/testing``), so that test runs that
do not use it do not import jobfn.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from jobfn.testing import AssertEnqueued, DrainJobs, FunctionUnderTest, JobsClock, JobsDatabase, JobsServer


@pytest.fixture
def jobfn_app() -> "Callable[..., FunctionUnderTest]":
    """Call tasks as a worker does.

    ``app = jobfn_app(functions)``, then ``await app.deliver("task", payload)``. Accepts a module, tasks, or the app of
    ``create_app``, and options for ``create_app``.
    """
    from jobfn.testing.app import function_under_test  # noqa: PLC0415  - only tests that use it import it

    return function_under_test


@pytest.fixture(scope="session")
def jobs_db_setup() -> Any:
    """Override it to return SQL, or a path to an SQL file, that runs once in the template of all test databases."""
    return None


@pytest.fixture(scope="session")
def jobs_server(jobs_db_setup: Any) -> "Iterator[JobsServer]":
    """PostgreSQL of this test run: ``JOBFN_TEST_DATABASE_URL``, by default an embedded one."""
    from jobfn.testing.database import JobsServer  # noqa: PLC0415  - as above

    with JobsServer.start(setup=jobs_db_setup) as server:
        yield server


@pytest.fixture
def jobs_db(jobs_server: "JobsServer") -> "Iterator[JobsDatabase]":
    """Database of this test, with the current jobs schema: ``jobs_db.dsn``, ``await jobs_db.connect()``."""
    with jobs_server.database() as database:
        yield database


@pytest.fixture
def drain_jobs(jobs_db: "JobsDatabase") -> "DrainJobs":
    """Run jobs until none is due.

    ``runs = await drain_jobs(functions)``.
    """
    from jobfn.testing.drain import DrainJobs  # noqa: PLC0415  - as above

    return DrainJobs(jobs_db)


@pytest.fixture
def assert_enqueued(jobs_db: "JobsDatabase") -> "AssertEnqueued":
    """Fail unless a matching job is in the queue: ``assert_enqueued("task", payload={"id": 1})``."""
    from jobfn.testing.asserts import AssertEnqueued  # noqa: PLC0415  - as above

    return AssertEnqueued(jobs_db)


@pytest.fixture
def jobs_clock(jobs_db: "JobsDatabase") -> "JobsClock":
    """Clock of this test's jobs: ``jobs_clock.freeze(datetime(2040, 1, 31, tzinfo=UTC))``, ``.advance(hours=1)``."""
    return jobs_db.clock
