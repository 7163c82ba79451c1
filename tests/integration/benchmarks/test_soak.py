"""The soak in its short form."""

from benchmarks.bench import Bench, Options
from benchmarks.cluster import Cluster
from benchmarks.soak import BOUNDS, judge, soak

JOBS = list(range(0, 1000, 10))


async def test_short_soak_runs_all_jobs_and_samples_each_series(database: str) -> None:
    bench = Bench(Options(), Cluster(database, "the tests' server"))
    result = await soak(bench, database, jobs=8000, interval_seconds=0.2)
    assert (result.jobs, result.left) == (8000, 0)
    counts = {len(values) for values in result.samples.values()}
    assert set(result.samples) == {"jobs", "seconds", *BOUNDS}
    assert len(counts) == 1
    assert all(value > 0 for name in BOUNDS for value in result.samples[name])
    assert result.samples["jobs"] == sorted(result.samples["jobs"])
    assert set(result.verdicts) == set(BOUNDS)


def test_growth_beyond_the_bound_is_not_flat() -> None:
    assert not judge(JOBS, [100 + job * 0.05 for job in JOBS], 0.1, 5.0).is_flat
    assert judge(JOBS, [100 + job * 0.01 for job in JOBS], 0.1, 5.0).is_flat
    assert judge(JOBS, [100 - job * 0.05 for job in JOBS], 0.1, 5.0).is_flat


def test_warm_up_and_outliers_do_not_count() -> None:
    values = [job * 0.5 if job < 200 else 100.0 for job in JOBS]
    values[50] = 10_000.0
    verdict = judge(JOBS, values, 0.1, 5.0)
    assert (verdict.is_flat, verdict.median, verdict.growth, verdict.bound) == (True, 100.0, 0.0, 15.0)
