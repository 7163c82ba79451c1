"""``make profile``: where worker and function spend their time over HTTP, sampled by py-spy, while a queue is drained.

Writes a flame graph of each (SVG) and prints the functions that were at work most often. py-spy needs the right to
look into other processes: root, or ptrace allowed (``sysctl kernel.yama.ptrace_scope=0``).
"""

import argparse
import asyncio
import collections
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from benchmarks.bench import Bench, Options, marks_file
from benchmarks.cluster import running_cluster
from benchmarks.errors import BenchError
from benchmarks.latencies import until_marked
from benchmarks.programs import Program
from benchmarks.results import RESULTS
from benchmarks.subjects import JobfnLocal, JobfnOverHttp

SAMPLES_A_SECOND = 250
MOST = 25
JOBS = 200_000


def main(arguments: list[str]) -> int:
    """Returns the exit code: 0 written, 2 not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiling", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=8, help="how long (default: 8)")
    parser.add_argument("--source", type=Path, help="a checkout whose src is measured")
    parser.add_argument("--concurrency", type=int, default=64, help="JOBS_CONCURRENCY (default: 64)")
    parser.add_argument("--local", action="store_true", help="functions inside the worker process")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the folder for the flame graphs")
    asked = parser.parse_args(arguments)
    source = asked.source.resolve() if asked.source is not None else None
    console = Console(stderr=True)
    try:
        with running_cluster() as cluster:
            bench = Bench(Options(source=source, concurrency=asked.concurrency), cluster, console)
            asyncio.run(_profile(bench, asked.seconds, asked.output, local=asked.local))
    except BenchError as error:
        console.print(f"benchmark: {error}", style="red", markup=False)
        return 2
    return 0


async def _profile(bench: Bench, seconds: int, folder: Path, *, local: bool) -> None:
    subject = JobfnLocal() if local else JobfnOverHttp("jobfn")
    url = await subject.prepare(bench)
    await subject.fill(url, JOBS)
    with marks_file() as path, subject.running(bench, url, {"BENCH_MARKS": str(path)}) as programs:
        await until_marked(path, programs, 1)
        with contextlib.ExitStack() as stack:
            watched = [(program, stack.enter_context(_watched(program, seconds))) for program in programs]
            await asyncio.sleep(seconds + 1)
            for program, stacks in watched:
                _tell(program, stacks, bench.console)
        names = ["worker", "function"]
        for program, name in zip(programs, names, strict=False):
            target = folder / f"profile-{name}.svg"
            _draw(program, target, seconds=max(2, seconds // 2))
            bench.console.print(f"written: {target}", highlight=False)


@contextlib.contextmanager
def _watched(program: Program, seconds: int) -> Iterator[Path]:
    """Sample one process in the background; its stacks are in the file when the seconds are over."""
    with tempfile.TemporaryDirectory(prefix="jobfn-bench-") as folder:
        stacks = Path(folder) / "stacks"
        command = _command(program, ["--format", "raw", "--output", str(stacks), "--duration", str(seconds)])
        sampling = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            yield stacks
        finally:
            sampling.terminate()
            sampling.wait()


def _command(program: Program, options: list[str]) -> list[str]:
    py_spy = str(Path(sys.executable).with_name("py-spy"))
    return [py_spy, "record", "--pid", str(program.process.pid), "--rate", str(SAMPLES_A_SECOND), *options]


def _draw(program: Program, target: Path, *, seconds: int) -> None:
    """A flame graph of these seconds."""
    target.parent.mkdir(parents=True, exist_ok=True)
    command = _command(program, ["--format", "flamegraph", "--output", str(target), "--duration", str(seconds)])
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"py-spy failed, it needs root or the right to trace: {done.stderr.strip()[-300:]}")


def _tell(program: Program, stacks: Path, console: Console) -> None:
    """Print which functions were on the stack, and at work themselves, most often."""
    if not stacks.exists():
        raise BenchError("py-spy wrote nothing: it needs root, or the right to trace")
    itself: collections.Counter[str] = collections.Counter()
    below: collections.Counter[str] = collections.Counter()
    samples = 0
    for line in stacks.read_text().splitlines():
        frames, _, times = line.rpartition(" ")
        names = [frame.rpartition(":")[0] or frame for frame in frames.split(";")]
        samples += int(times)
        itself[names[-1]] += int(times)
        for name in set(names):
            below[name] += int(times)
    console.print(f"{program.name}: {samples} samples at work", style="bold")
    for name, count in itself.most_common(MOST):
        console.print(
            f"  {count / samples:6.1%} itself  {below[name] / samples:6.1%} with what it calls  {name}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
