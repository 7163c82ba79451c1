"""``python -m benchmarks``: measure jobfn next to its peers. Print tables, write ``results/latest.json`` and plots."""

import argparse
import asyncio
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from rich.console import Console

from benchmarks.bench import Bench, Options
from benchmarks.cluster import running_cluster
from benchmarks.errors import BenchError
from benchmarks.families import FAMILIES
from benchmarks.measurements import Family
from benchmarks.results import RESULT_FILE, RESULTS_FOLDER, Result, describe_machine
from benchmarks.table import print_table

#: Relative time limit of each family, in the order of running. Short ones come first, so that a run that takes too
#: long misses one family and not three.
TIME_WEIGHTS = {1: 5, 2: 14, 3: 11, 8: 4, 7: 7, 5: 21, 4: 20, 6: 18}
FULL_LIMIT_SECONDS, QUICK_LIMIT_SECONDS = 600.0, 90.0
#: Fraction of the limit for measuring. The rest is for startup and for rounds that have begun.
MEASURING_FRACTION = 0.9
#: Time for stopping the server and drawing.
FINISH_SECONDS = 5.0


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="fewer jobs: 90 seconds instead of 10 minutes")
    add("--family", type=int, action="append", choices=sorted(FAMILIES), help="only this family; repeatable")
    add("--rounds", type=int, default=3, help="rounds per subject (default: %(default)s)")
    add("--only", action="append", default=[], metavar="TEXT", help="only subjects whose name has TEXT; repeatable")
    add("--no-peers", action="store_true", help="only jobfn")
    add("--python", default=sys.executable, help="interpreter that runs jobfn (default: this one)")
    add("--source", type=Path, metavar="DIR", help="measure the src of this checkout")
    add("--concurrency", type=int, default=256, help="JOBS_CONCURRENCY of jobfn (default: %(default)s)")
    add("--scale", type=float, default=1.0, help="factor for the numbers of jobs")
    add("--embedded", action="store_true", help="use the embedded PostgreSQL, not the system's")
    add("--limit", type=float, metavar="SECONDS", help="maximum duration (default: 600, quick: 90)")
    add("--output", type=Path, default=RESULTS_FOLDER, metavar="DIR", help="folder for the result and the plots")
    add("--no-save", action="store_true", help="only print")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.source is not None and not (options.source / "src" / "jobfn").is_dir():
        parser.error(f"--source: {options.source} has no src/jobfn")
    return options


def main(arguments: list[str]) -> int:
    """Measure, print and save. Return the exit code: 0, 2 on an error, 130 if interrupted."""
    parsed = parse_arguments(arguments)
    options = Options(
        quick=parsed.quick,
        rounds=parsed.rounds,
        python=parsed.python,
        source=parsed.source.resolve() if parsed.source is not None else None,
        peers=not parsed.no_peers,
        concurrency=parsed.concurrency,
        scale=parsed.scale,
        only=parsed.only,
        limit_seconds=parsed.limit or (QUICK_LIMIT_SECONDS if parsed.quick else FULL_LIMIT_SECONDS),
    )
    console = Console(stderr=True)
    signal.signal(signal.SIGTERM, _interrupt)
    machine = describe_machine()  # before the benchmark's own load
    try:
        with running_cluster(embedded=parsed.embedded) as cluster:
            bench = Bench(options, cluster, console)
            families = asyncio.run(_measure(bench, parsed.family or list(FAMILIES)))
            server = asyncio.run(cluster.reported_settings()) | {"origin": cluster.origin}
    except BenchError as error:
        console.print(f"benchmark: {error}", style="red", markup=False)
        return 2
    except KeyboardInterrupt:
        console.print("benchmark: interrupted, nothing was written")
        return 130
    result = Result(
        families=families, machine=machine, server=server, quick=options.quick, concurrency=options.concurrency
    )
    print_table(result, Console())
    if not parsed.no_save:
        result.save(parsed.output)
        console.print(f"written: {parsed.output / RESULT_FILE}, {_draw_plots(result, parsed.output)}", highlight=False)
    return 0


async def _measure(bench: Bench, numbers: list[int]) -> list[Family]:
    """Measure each family within its share of the time."""
    limit = bench.options.limit_seconds
    weights = {number: weight for number, weight in TIME_WEIGHTS.items() if number in numbers}
    bench.family_deadline = time.monotonic()
    families = []
    for number, weight in weights.items():
        summary = (FAMILIES[number].__doc__ or "").splitlines()[0]
        bench.console.print(summary, highlight=False, markup=False)
        started_at = time.monotonic()
        seconds = limit * MEASURING_FRACTION * weight / sum(weights.values())
        bench.family_deadline = max(bench.family_deadline, started_at) + seconds
        try:
            async with asyncio.timeout(bench.seconds_left - FINISH_SECONDS):
                family: Family = await FAMILIES[number].measure(bench)
        except (TimeoutError, BenchError) as error:
            reason = error if isinstance(error, BenchError) else f"the {limit:g} seconds were over"
            family = Family(number, summary.partition(": ")[2], notes=[f"not measured: {reason}"])
            bench.log(f"  {family.notes[0]}")
        family.seconds = time.monotonic() - started_at
        families.append(family)
    return sorted(families, key=lambda family: family.number)


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
