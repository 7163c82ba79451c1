from benchmarks.bench import Bench, Options
from benchmarks.cluster import Cluster
from benchmarks.drain import drain
from benchmarks.subjects import HttpLimit


async def test_service_runs_jobs_of_a_store_in_memory(database: str) -> None:
    bench = Bench(Options(), Cluster(database, "the tests' server"))
    result = await drain(bench, HttpLimit("test limit"), database, jobs=400, max_seconds=30)
    assert result.settled == 400
