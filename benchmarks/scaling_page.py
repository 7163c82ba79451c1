"""Write the results of the soak and of the simulation into ``docs/scaling.md``: no number there is written by hand."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.processes import ROOT
from benchmarks.report import replace_blocks, wrap

if TYPE_CHECKING:
    from benchmarks.simulation import SimulationResult

PAGE = Path("docs") / "scaling.md"
SERIES = {
    "service_megabytes": "resident memory of the service, MB",
    "function_megabytes": "resident memory of the function, MB",
    "table_megabytes": "jobs table and indexes, MB",
    "connections": "connections to PostgreSQL",
    "service_files": "open files of the service",
    "function_files": "open files of the function",
    "claim_milliseconds": "time to claim one job, ms",
}


def write_soak(document: Mapping[str, Any], *, has_plot: bool, root: Path = ROOT) -> None:
    """Write the result of a soak, as ``soak.json`` has it, into the page below a folder."""
    machine, verdicts = document["machine"], document["verdicts"]
    where = f"{machine['cpus']} cores ({machine['cpu']}) with load {machine['load']:.1f} at the end"
    growing = [SERIES[name] for name, verdict in verdicts.items() if not verdict["is_flat"]]
    jobs = document["samples"]["jobs"]
    per_second = document["jobs"] / document["seconds"]
    warm_up = jobs[min(len(jobs) - 1, len(jobs) // 5)]
    text = (
        f"On {_today()}, {document['jobs']:,} jobs ran in {document['seconds'] / 60:.1f} minutes, which is "
        f"{per_second:,.0f} per second, on {where}. {document['left']:,} jobs were left. The processes warm up during "
        f"the first {warm_up:,.0f} jobs. Afterwards, {' and '.join(growing) or 'nothing'} grew beyond its bound:"
    )
    rows = [
        f"| {SERIES[name]} | {verdict['median']:,.4g} | {verdict['growth']:+,.2g} | {verdict['bound']:,.3g} "
        f"| {'flat' if verdict['is_flat'] else 'grows'} |"
        for name, verdict in verdicts.items()
    ]
    header = ["| what | median | growth | bound | |", "| --- | ---: | ---: | ---: | --- |"]
    plot = ["", "![Soak: memory, table, connections, files and claims](../benchmarks/results/soak.svg)"]
    _write(root, "soak", [wrap(text), "", *header, *rows, *(plot if has_plot else [])])


def write_simulation(result: "SimulationResult", root: Path = ROOT) -> None:
    """Write the result of a simulation into the page below a folder."""
    plan, waits = result.plan, result.waits
    text = (
        f"{plan.workers:,} workers on {plan.databases} databases, seed {plan.seed}. Jobs arrived for {plan.seconds:g} "
        f"seconds. After a third of them, {plan.killed * plan.workers:.0f} workers were killed; after two thirds, "
        f"{plan.down * plan.databases:.0f} databases were down for {plan.down_seconds:g} seconds. Of the attempts, "
        f"{plan.failure_rate * 100:g} % failed."
    )
    rows = [
        ("jobs; lost; run twice", f"{result.jobs:,}; {result.lost:,}; {result.doubled:,}"),
        *(
            (f"wait of the {task} jobs: median, 99 %", f"{_seconds(waits[task][0])}, {_seconds(waits[task][1])}")
            for task in waits
        ),
        ("fairness: Jain's index of the jobs per worker, the lowest of all databases", f"{result.fairness:.2f}"),
        ("wake-ups: polls per second and worker; of these empty", _polls(result)),
        ("polls for each notification of a worker", f"{result.polls_per_notification:.1f}"),
        ("recovery: until the last job of a killed worker ran again", f"{result.recovery_seconds:.1f} s"),
        (
            "catch-up: until no quick or usual job of a database that was down had waited for more than a second",
            f"{result.catch_up_seconds:.1f} s",
        ),
    ]
    table = ["| figure | simulated |", "| --- | ---: |", *(f"| {name} | {value} |" for name, value in rows)]
    _write(root, "simulation", [wrap(text), "", *table])


def _write(root: Path, name: str, lines: list[str]) -> None:
    page = root / PAGE
    page.write_text(replace_blocks(page, {name: "\n".join(lines)}))


def _today() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d}"


def _polls(result: "SimulationResult") -> str:
    return f"{result.polls_per_second:.1f}; {result.empty_polls * 100:.0f} %"


def _seconds(value: float) -> str:
    return f"{value * 1e3:.0f} ms" if value < 1 else f"{value:.1f} s"
