import pytest

from benchmarks.bench import Bench, Options
from benchmarks.cluster import Cluster
from benchmarks.drain import Subject, drain
from benchmarks.subjects import HttpLimit, LocalLimit


@pytest.mark.parametrize("subject", [HttpLimit("over HTTP"), LocalLimit("local")], ids=lambda each: each.name)
async def test_service_runs_jobs_of_a_store_in_memory(database: str, subject: Subject) -> None:
    bench = Bench(Options(), Cluster(database, "the tests' server"))
    result = await drain(bench, subject, database, jobs=400, max_seconds=30)
    assert result.settled == 400
