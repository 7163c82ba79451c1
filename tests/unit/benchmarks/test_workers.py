from benchmarks.drain import TOTAL_CPU_UNIT
from benchmarks.families.workers import compare_cpu
from benchmarks.measurements import Comparison, Family


def compared(cores: int) -> list[Comparison]:
    family = Family(9, "Workers")
    for count, microseconds in ((1, 50.0), (2, 54.0), (4, 70.0)):
        subject = f"jobfn, {count} worker{'s' if count > 1 else ''}"
        family.measurement(subject, TOTAL_CPU_UNIT).rounds.append(microseconds)
    compare_cpu(family, cores=cores)
    return family.comparisons


def test_workers_that_have_a_core_each_have_a_target() -> None:
    assert [(each.name, each.value, each.verdict) for each in compared(cores=4)] == [
        ("total CPU per job, 2 workers against 1", 1.08, "met"),
        ("total CPU per job, 4 workers against 1", 1.4, "missed"),
    ]


def test_more_workers_than_cores_have_no_target() -> None:
    assert [(each.name, each.value, each.target, each.verdict) for each in compared(cores=2)] == [
        ("total CPU per job, 2 workers against 1", 1.08, "at most 1.1x", "met"),
        ("total CPU per job, 4 workers against 1, on 2 cores", 1.4, "", ""),
    ]
