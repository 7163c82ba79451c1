from benchmarks.bench import Bench, Options
from benchmarks.cluster import Cluster
from benchmarks.drain import drain
from benchmarks.subjects import Workers


async def test_workers_share_a_queue(database: str) -> None:
    bench = Bench(Options(), Cluster(database, "the tests' server"))
    result = await drain(bench, Workers("test workers", count=2), database, jobs=2000, max_seconds=30)
    assert result.settled == 2000
    assert result.cpu_seconds > 0
    assert result.server_cpu_seconds > 0
