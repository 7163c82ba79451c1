"""``make profile``: sample worker and function with py-spy while a queue is drained over HTTP.

Writes a flame graph of each (SVG) and prints the functions with the most samples. py-spy needs root or the right to
trace other processes (``sysctl kernel.yama.ptrace_scope=0``).
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

from benchmarks.bench import Bench, Options, timestamp_reader
from benchmarks.cluster import running_cluster
from benchmarks.errors import BenchError
from benchmarks.latencies import wait_for_jobs
from benchmarks.processes import BenchProcess
from benchmarks.results import RESULTS_FOLDER
from benchmarks.subjects import JobfnLocal, JobfnOverHttp

SAMPLES_PER_SECOND = 250
MAX_SHOWN_FUNCTIONS = 25
JOBS = 200_000
NEEDS_TRACING = "it needs root or the right to trace"


def main(arguments: list[str]) -> int:
    """Profile. Return the exit code: 0, or 2 on an error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiling", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--seconds", type=int, default=8, help="duration of sampling (default: %(default)s)")
    add("--source", type=Path, metavar="DIR", help="profile the src of this checkout")
    add("--local", action="store_true", help="run functions in the worker process")
    add("--output", type=Path, default=RESULTS_FOLDER, metavar="DIR", help="folder for the flame graphs")
    parsed = parser.parse_args(arguments)
    source = parsed.source.resolve() if parsed.source is not None else None
    console = Console(stderr=True)
    try:
        with running_cluster() as cluster:
            bench = Bench(Options(source=source), cluster, console)
            asyncio.run(_profile(bench, parsed.seconds, parsed.output, local=parsed.local))
    except BenchError as error:
        console.print(f"benchmark: {error}", style="red", markup=False)
        return 2
    return 0


async def _profile(bench: Bench, seconds: int, folder: Path, *, local: bool) -> None:
    subject = JobfnLocal() if local else JobfnOverHttp("jobfn")
    url = await subject.prepare(bench)
    await subject.fill(url, JOBS)
    with timestamp_reader() as reader:
        async with subject.running(bench, url, {"BENCH_TIMESTAMPS": str(reader.folder)}) as processes:
            await wait_for_jobs(reader, processes, 1)
            with contextlib.ExitStack() as stack:
                sampled = [(process, stack.enter_context(_sampling(process, seconds))) for process in processes]
                await asyncio.sleep(seconds + 1)
                for process, stacks in sampled:
                    _print_functions(process, stacks, bench.console)
            for process, name in zip(processes, ("worker", "function"), strict=False):
                target = folder / f"profile-{name}.svg"
                _draw_flame_graph(process, target, seconds=max(2, seconds // 2))
                bench.console.print(f"written: {target}", highlight=False)


@contextlib.contextmanager
def _sampling(process: BenchProcess, seconds: int) -> Iterator[Path]:
    """Sample a process in the background. The file has its stacks when the seconds are over."""
    with tempfile.TemporaryDirectory(prefix="jobfn-bench-") as folder:
        stacks = Path(folder) / "stacks"
        command = _py_spy_command(process, ["--format", "raw", "--output", str(stacks), "--duration", str(seconds)])
        py_spy = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield stacks
        finally:
            py_spy.terminate()
            py_spy.wait()


def _py_spy_command(process: BenchProcess, options: list[str]) -> list[str]:
    py_spy = str(Path(sys.executable).with_name("py-spy"))
    return [py_spy, "record", "--pid", str(process.popen.pid), "--rate", str(SAMPLES_PER_SECOND), *options]


def _draw_flame_graph(process: BenchProcess, target: Path, *, seconds: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    options = ["--format", "flamegraph", "--output", str(target), "--duration", str(seconds)]
    py_spy = subprocess.run(_py_spy_command(process, options), capture_output=True, text=True, check=False)
    if py_spy.returncode != 0:
        raise BenchError(f"py-spy failed, {NEEDS_TRACING}: {py_spy.stderr.strip()[-300:]}")


def _print_functions(process: BenchProcess, stacks: Path, console: Console) -> None:
    """Print the functions with the most samples, alone and with their callees."""
    if not stacks.exists():
        raise BenchError(f"py-spy wrote nothing: {NEEDS_TRACING}")
    self_samples: collections.Counter[str] = collections.Counter()
    total_samples: collections.Counter[str] = collections.Counter()
    for line in stacks.read_text().splitlines():
        frames, _, line_samples = line.rpartition(" ")
        names = [frame.rpartition(":")[0] or frame for frame in frames.split(";")]
        self_samples[names[-1]] += int(line_samples)
        for name in set(names):
            total_samples[name] += int(line_samples)
    samples = self_samples.total()
    console.print(f"{process.name}: {samples} active samples", style="bold")
    for name, count in self_samples.most_common(MAX_SHOWN_FUNCTIONS):
        shares = f"{count / samples:6.1%} self  {total_samples[name] / samples:6.1%} with callees"
        console.print(f"  {shares}  {name}", highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
