"""``python -m benchmarks``: measure jobfn next to its peers. Print tables, write ``results/latest.json`` and plots."""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Collection
from pathlib import Path
from types import FrameType
from typing import cast

from rich.console import Console

from benchmarks.arguments import positive
from benchmarks.bench import Bench, Options
from benchmarks.cluster import running_cluster
from benchmarks.errors import BenchError
from benchmarks.families import FAMILIES, TARGET_FAMILIES
from benchmarks.measurements import Family
from benchmarks.results import RESULT_FILE, RESULTS_FOLDER, Result, describe_machine
from benchmarks.table import print_table

FULL_LIMIT_SECONDS, QUICK_LIMIT_SECONDS = 720.0, 180.0
#: A family that would get less than this part of its usual time is cut. A third of it is for one round.
MIN_TIME_FRACTION = 0.2
#: Time for stopping the server and drawing.
FINISH_SECONDS = 10.0


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="one round of the README's rows: 3 minutes instead of 12")
    add("--family", type=int, action="append", choices=sorted(FAMILIES), help="only this family; repeatable")
    add("--rounds", type=positive, help="rounds per subject (default: 3, quick: 1)")
    add("--only", action="append", default=[], metavar="TEXT", help="only subjects whose name has TEXT; repeatable")
    add("--no-peers", action="store_true", help="only jobfn")
    add("--python", default=sys.executable, help="interpreter that runs jobfn (default: this one)")
    add("--source", type=Path, metavar="DIR", help="measure the src of this checkout")
    add("--embedded", action="store_true", help="use the embedded PostgreSQL, not the system's")
    add("--limit", type=float, metavar="SECONDS", help="time for the run (default: 720, quick: 180)")
    add("--output", type=Path, metavar="DIR", help="folder for result and plots; only a whole run has a default")
    options = parser.parse_args(arguments)
    is_part = options.family or options.only or options.quick or options.no_peers or options.source
    if options.output is None and not is_part:
        options.output = RESULTS_FOLDER
    if options.source is not None and not (options.source / "src" / "jobfn").is_dir():
        parser.error(f"--source: {options.source} has no src/jobfn")
    return options


def main(arguments: list[str]) -> int:
    """Measure, print and save. Return the exit code: 0, 2 on an error, 130 if interrupted."""
    parsed = parse_arguments(arguments)
    options = Options(
        quick=parsed.quick,
        rounds=parsed.rounds or (1 if parsed.quick else 3),
        python=parsed.python,
        source=parsed.source.resolve() if parsed.source is not None else None,
        peers=not parsed.no_peers,
        only=parsed.only,
        limit_seconds=parsed.limit or (QUICK_LIMIT_SECONDS if parsed.quick else FULL_LIMIT_SECONDS),
    )
    console = Console(stderr=True)
    signal.signal(signal.SIGTERM, _interrupt)
    started_at = time.monotonic()
    machine = describe_machine()  # before the benchmark's own load
    try:
        with running_cluster(embedded=parsed.embedded) as cluster:
            bench = Bench(options, cluster, console, started_at=started_at)
            families = asyncio.run(_measure(bench, parsed.family or (TARGET_FAMILIES if parsed.quick else FAMILIES)))
            server = asyncio.run(cluster.reported_settings()) | {"origin": cluster.origin}
    except BenchError as error:
        console.print(f"benchmark: {error}", style="red", markup=False)
        return 2
    except KeyboardInterrupt:
        console.print("benchmark: interrupted, nothing was written")
        return 130
    result = Result(families=families, machine=machine, server=server, quick=options.quick, seconds=bench.seconds)
    print_table(result, Console())
    if parsed.output is not None:
        result.save(parsed.output)
        console.print(f"written: {parsed.output / RESULT_FILE}, {_draw_plots(result, parsed.output)}", highlight=False)
    return 0


async def _measure(bench: Bench, numbers: Collection[int]) -> list[Family]:
    """Measure each family in its part of the time. Families without a row in the README get what the others leave."""
    groups = (TARGET_FAMILIES, [number for number in FAMILIES if number not in TARGET_FAMILIES])
    families = []
    for group in groups:
        left = [number for number in group if number in numbers]
        while left:
            usual = sum(FAMILIES[number].USUAL_SECONDS for number in left)
            number = left.pop(0)
            own = FAMILIES[number].USUAL_SECONDS
            scale = (bench.seconds_left - FINISH_SECONDS) / usual
            seconds = own * min(scale, max(1.0, bench.options.limit_seconds / FULL_LIMIT_SECONDS))
            started_at = time.monotonic()
            bench.family_deadline = started_at + seconds
            family = await _measure_family(bench, number, seconds)
            family.seconds = time.monotonic() - started_at
            bench.log(f"  took {family.seconds:.0f} of {max(0.0, seconds):.0f} s")
            families.append(family)
    return sorted(families, key=lambda family: family.number)


async def _measure_family(bench: Bench, number: int, seconds: float) -> Family:
    """Measure a family, or return one that says why it is not measured."""
    module = FAMILIES[number]
    summary = (module.__doc__ or "").splitlines()[0]
    bench.console.print(summary, highlight=False, markup=False)
    reason: object = f"cut, because {max(0.0, seconds):.0f} s do not suffice"
    if seconds >= MIN_TIME_FRACTION * module.USUAL_SECONDS * min(bench.options.rounds, 3) / 3:
        try:
            return cast("Family", await module.measure(bench))
        except BenchError as error:
            reason = error
    bench.log(f"  not measured: {reason}")
    title = summary.partition(": ")[2].rstrip(".")
    return Family(number, title[0].upper() + title[1:], notes=[f"not measured: {reason}"])


def _draw_plots(result: Result, folder: Path) -> str:
    """Draw the plots. Return what was written."""
    try:
        from benchmarks.plots import draw_plots  # noqa: PLC0415  - matplotlib is only in .venv-bench
    except ImportError:
        return "no plots, because matplotlib is not installed: make bench installs it"
    return f"{len(draw_plots(result, folder))} plots"


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
