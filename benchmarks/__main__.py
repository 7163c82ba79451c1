"""``python -m benchmarks``: measure jobfn beside its peers; print a table, write ``results/latest.json`` and plots."""

import argparse
import asyncio
import signal
import sys
import time
from pathlib import Path
from types import FrameType, ModuleType

from rich.console import Console

from benchmarks.bench import Bench, Options
from benchmarks.cluster import running_cluster
from benchmarks.errors import BenchError
from benchmarks.families import (
    backlog,
    cold_start,
    enqueueing,
    fewer_exchanges,
    function_app,
    latency,
    local_functions,
    whole_path,
)
from benchmarks.figures import Family
from benchmarks.report import write_readme
from benchmarks.results import FILE, RESULTS, Result, describe_machine
from benchmarks.table import print_table

FAMILIES: dict[int, ModuleType] = {
    1: function_app,
    2: whole_path,
    3: fewer_exchanges,
    4: local_functions,
    5: latency,
    6: backlog,
    7: enqueueing,
    8: cold_start,
}
#: Each family's share of the time.
SHARES = {1: 5, 2: 14, 3: 11, 4: 20, 5: 21, 6: 18, 7: 7, 8: 4}
#: The short ones first: if the time runs out, one family is missing and not three.
ORDER = (1, 2, 3, 8, 7, 5, 4, 6)
FULL_SECONDS, QUICK_SECONDS = 600.0, 90.0
#: Of the limit so much is kept for starting, finishing a round that has begun, and drawing.
MARGIN = 0.9
#: After the last figure: stopping the server, the plots.
DRAWING_SECONDS = 5.0


def options_from(arguments: list[str]) -> tuple[Options, argparse.Namespace]:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer jobs: 90 seconds instead of 10 minutes")
    parser.add_argument("--family", type=int, action="append", choices=sorted(FAMILIES), help="only this; repeatable")
    parser.add_argument("--rounds", type=int, help="how often each subject runs (default: 3)")
    parser.add_argument("--only", action="append", default=[], help="only subjects whose name holds this; repeatable")
    parser.add_argument("--no-peers", action="store_true", help="only jobfn")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that runs jobfn")
    parser.add_argument("--source", type=Path, help="a checkout whose src is measured")
    parser.add_argument("--concurrency", type=int, default=256, help="JOBS_CONCURRENCY of jobfn (default: 256)")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the numbers of jobs")
    parser.add_argument("--embedded", action="store_true", help="the embedded PostgreSQL, not the system's")
    parser.add_argument("--limit", type=float, help="seconds for the whole run (default: 600, quick: 90)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the folder for the result (default: %(default)s)")
    parser.add_argument("--no-save", action="store_true", help="only print")
    parser.add_argument("--readme", action="store_true", help="write the table into README.md too")
    asked = parser.parse_args(arguments)
    if asked.rounds is not None and asked.rounds < 1:
        parser.error("--rounds: at least 1")
    if asked.source is not None and not (asked.source / "src" / "jobfn").is_dir():
        parser.error(f"--source: there is no src/jobfn in {asked.source}")
    options = Options(
        quick=asked.quick,
        rounds=asked.rounds or 3,
        python=asked.python,
        source=asked.source.resolve() if asked.source is not None else None,
        peers=not asked.no_peers,
        concurrency=asked.concurrency,
        scale=asked.scale,
        only=asked.only,
        limit_seconds=asked.limit or (QUICK_SECONDS if asked.quick else FULL_SECONDS),
    )
    return options, asked


def main(arguments: list[str]) -> int:
    """Returns the exit code: 0 measured, 2 not."""
    options, asked = options_from(arguments)
    console = Console(stderr=True)
    signal.signal(signal.SIGTERM, _interrupt)
    machine = describe_machine()  # before the benchmark's own load
    try:
        with running_cluster(embedded=asked.embedded) as cluster:
            bench = Bench(options, cluster, console)
            found = asyncio.run(_measure(bench, [number for number in ORDER if number in (asked.family or ORDER)]))
            server = asyncio.run(cluster.settings()) | {"origin": cluster.origin}
    except BenchError as error:
        console.print(f"benchmark: {error}", style="red", markup=False)
        return 2
    except KeyboardInterrupt:
        console.print("benchmark: interrupted; nothing was written")
        return 130
    result = Result(families=found, machine=machine, server=server, quick=options.quick)
    print_table(result, Console())
    if not asked.no_save:
        result.save(asked.output)
        console.print(f"written: {asked.output / FILE} and {_draw(result, asked.output)}", highlight=False)
    if asked.readme:
        write_readme(result)
        console.print("written: README.md")
    return 0


async def _measure(bench: Bench, numbers: list[int]) -> list[Family]:
    """Each family in its share of the time; what is not done when all of the time is up is not done."""
    limit = bench.options.limit_seconds
    end = bench.began + limit - DRAWING_SECONDS
    bench.deadline = time.monotonic()
    found = []
    for number in numbers:
        purpose, _, what = (FAMILIES[number].__doc__ or "").splitlines()[0].partition(": ")
        bench.console.print(f"{purpose}: {what}", highlight=False, markup=False)
        began = time.monotonic()
        share = SHARES[number] / sum(SHARES[each] for each in numbers)
        bench.deadline = max(bench.deadline, began) + limit * MARGIN * share
        try:
            async with asyncio.timeout(end - time.monotonic()):
                family: Family = await FAMILIES[number].measure(bench)
        except TimeoutError:
            family = Family(number, what, notes=[f"not measured: the {limit:g} seconds were over"])
            bench.say(f"  {family.notes[0]}")
        except BenchError as error:  # the others are worth having
            family = Family(number, what, notes=[f"not measured: {error}"])
            bench.say(f"  {family.notes[0]}")
        family.seconds = time.monotonic() - began
        found.append(family)
    return sorted(found, key=lambda family: family.number)


def _draw(result: Result, folder: Path) -> str:
    """Draw the plots; returns what to say of them."""
    try:
        from benchmarks.plots import draw_all  # noqa: PLC0415  - the smoke test runs without matplotlib
    except ImportError:
        return "no plots: matplotlib is not installed, make bench installs it"
    return f"{len(draw_all(result, folder))} plots beside it"


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
