"""Family 10: the whole path with 5 ms of added latency between the service and PostgreSQL."""

import contextlib
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from benchmarks.bench import Bench
from benchmarks.cluster import connect, free_port, pg_variables
from benchmarks.drain import RATE_UNIT, drain_all
from benchmarks.measurements import Family
from benchmarks.processes import BenchProcess, start_process
from benchmarks.subjects import JobfnOverHttp

USUAL_SECONDS = 30
LATENCY_SECONDS = 0.005
PINGS = 50


@dataclass
class BehindProxy(JobfnOverHttp):
    """jobfn over HTTP whose service reaches PostgreSQL through a proxy that adds latency to each round trip.

    Attributes:
        latency_seconds: The latency, half of it in each direction.
    """

    latency_seconds: float = 0.0

    @contextlib.asynccontextmanager
    async def running(self, bench: Bench, url: str, variables: dict[str, str]) -> AsyncIterator[Sequence[BenchProcess]]:
        with _proxy(url, self.latency_seconds) as (proxy, proxied_url):
            await proxy.wait_for_port()
            async with super().running(bench, proxied_url, variables) as processes:
                yield processes


WITHOUT = BehindProxy("jobfn, no added latency", "defaults")
WITH = BehindProxy("jobfn, 5 ms of added latency to PostgreSQL", "defaults", latency_seconds=LATENCY_SECONDS)


async def measure(bench: Bench) -> Family:
    family = Family(10, "Slow network: 5 ms of added latency to PostgreSQL")
    await drain_all(bench, family, [WITHOUT, WITH])
    family.compare(
        "rate with 5 ms of added latency, against without", (WITH.name, RATE_UNIT), [(WITHOUT.name, RATE_UNIT)]
    )
    round_trips = [await _round_trip_milliseconds(bench, each.latency_seconds) for each in (WITHOUT, WITH)]
    family.notes.append(
        "both go through the same proxy, which adds half of the latency in each direction; a round trip takes "
        f"{round_trips[0]:.1f} ms without and {round_trips[1]:.1f} ms with it"
    )
    return family


@contextlib.contextmanager
def _proxy(url: str, latency_seconds: float) -> Iterator[tuple[BenchProcess, str]]:
    """Run a proxy to the server of a URL. Return it with the URL that goes through it."""
    parts, server, port = urlsplit(url), pg_variables(url), free_port()
    target = [server["PGHOST"], server["PGPORT"], str(latency_seconds / 2)]
    command = [sys.executable, "-m", "benchmarks.peers.delay_proxy", str(port), *target]
    user = parts.netloc.rpartition("@")[0]
    with start_process("the proxy", command, {}, port=port, cpus=frozenset()) as proxy:
        yield proxy, parts._replace(netloc=f"{user}@127.0.0.1:{port}", query="").geturl()


async def _round_trip_milliseconds(bench: Bench, latency_seconds: float) -> float:
    times = []
    with _proxy(bench.cluster.admin_url, latency_seconds) as (proxy, url):
        await proxy.wait_for_port()
        async with connect(url) as connection:
            for _ in range(PINGS):
                started_at = time.perf_counter()
                await connection.execute("select 1")
                times.append(time.perf_counter() - started_at)
    return statistics.median(times) * 1e3
