"""What a run was asked for, and what every family gets of it: the server, the interpreters, how much, how often."""

import importlib.util
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from benchmarks.cluster import Cluster
from benchmarks.errors import NotMeasured
from benchmarks.figures import Family
from benchmarks.programs import ROOT, run

T = TypeVar("T")

#: Where `make bench` puts the Node packages.
NODE_MODULES = ROOT / "benchmarks" / "peers" / "node_modules"
TEMPLATE = "jobfn_template"


@dataclass(frozen=True)
class Options:
    """A run.

    Attributes:
        quick: Fewer jobs, for `make bench-quick`.
        rounds: How often each subject runs.
        python: The interpreter that runs jobfn; its environment decides which jobfn that is.
        source: A checkout whose ``src`` is measured instead of the one that the interpreter has.
        peers: Whether others are measured beside jobfn.
        concurrency: ``JOBS_CONCURRENCY`` of jobfn's worker.
        scale: Multiplies the numbers of jobs.
        only: Subjects whose name holds one of these; empty: all.
        limit_seconds: For the whole run. Each family has its share; what it cannot do in that is left out.
    """

    quick: bool = False
    rounds: int = 3
    python: str = sys.executable
    source: Path | None = None
    peers: bool = True
    concurrency: int = 256
    scale: float = 1.0
    only: Sequence[str] = ()
    limit_seconds: float = 600.0


@dataclass
class Bench:
    """A run that is under way.

    Attributes:
        options: What it was asked for.
        cluster: The server.
        console: Where progress is told.
        began: When the run began, on the monotonic clock.
        deadline: When the family that runs must start no further round, on the monotonic clock.
    """

    options: Options
    cluster: Cluster
    console: Console = field(default_factory=lambda: Console(stderr=True))
    deadline: float = math.inf
    began: float = field(default_factory=time.monotonic)
    _has_template: bool = False

    def rounds(self, family: Family, *, times: int = 1) -> Iterator[int]:
        """1, 2, 3 ...: so many times the rounds that were asked for, or fewer when the family's time is up."""
        asked = self.options.rounds * times
        for number in range(1, asked + 1):
            if number > 1 and time.monotonic() > self.deadline:
                family.notes.append(f"{number - 1} of {asked} rounds: the time was up")
                self.say(f"  {family.notes[-1]}")
                return
            yield number

    @property
    def seconds_left(self) -> float:
        """Until the whole run's time is up."""
        return self.began + self.options.limit_seconds - time.monotonic()

    def in_order(self, subjects: Sequence[T], number: int) -> Sequence[T]:
        """There and back: what drifts over a round does not always meet the same one first."""
        return subjects if number % 2 else subjects[::-1]

    def amount(self, full: int, quick: int) -> int:
        """So many jobs: in the whole form, or in the quick one."""
        return max(1, round((quick if self.options.quick else full) * self.options.scale))

    def wants(self, subject: str) -> bool:
        """Whether this subject was asked for."""
        return not self.options.only or any(text in subject for text in self.options.only)

    def say(self, text: str) -> None:
        """Progress."""
        self.console.print(text, style="dim", highlight=False, markup=False)

    def jobfn(self, *arguments: str) -> list[str]:
        """The command of jobfn's interpreter."""
        return [self.options.python, *arguments]

    def jobfn_command(self, *arguments: str) -> list[str]:
        """``jobfn ...`` of that interpreter, which need not have the script."""
        return self.jobfn("-c", "import sys; from jobfn.cli import main; sys.exit(main())", *arguments)

    def jobfn_variables(self, **extra: str) -> dict[str, str]:
        """The environment in which jobfn is measured."""
        common = {"PYTHONPATH": str(ROOT), "LOG_LEVEL": "warning"}
        if self.options.source is not None:
            common["PYTHONPATH"] = os.pathsep.join([str(self.options.source / "src"), str(ROOT)])
            common["PYTHONPYCACHEPREFIX"] = str(Path(tempfile.gettempdir()) / "jobfn-bench-pycache")  # not in there
        return common | extra

    def node(self) -> str:
        """Node, with the packages beside it.

        Raises:
            NotMeasured: One of them is not there.
        """
        self.peer_wanted()
        node = shutil.which("node")
        if node is None:
            raise NotMeasured("node is not installed")
        if not (NODE_MODULES / "graphile-worker").exists():
            raise NotMeasured("its npm packages are not installed: make bench installs them where npm is")
        return node

    def peer(self, package: str) -> str:
        """The interpreter for a Python peer.

        Raises:
            NotMeasured: It is not there.
        """
        self.peer_wanted()
        if importlib.util.find_spec(package) is None:
            lowest = " (it needs Python 3.12)" if package == "oban" and sys.version_info < (3, 12) else ""
            raise NotMeasured(f"{package} is not installed{lowest}")
        return sys.executable

    def peer_wanted(self) -> None:
        """Raise NotMeasured where only jobfn is to be measured."""
        if not self.options.peers:
            raise NotMeasured("--no-peers")

    async def migrated(self, database: str) -> str:
        """A database with jobfn's schema; returns its address."""
        if not self._has_template:
            url = await self.cluster.create(TEMPLATE)
            await run("jobfn db migrate", self.jobfn_command("db", "migrate"), self.jobfn_variables(DATABASE_URL=url))
            self._has_template = True
        return await self.cluster.create(database, template=TEMPLATE)


@contextmanager
def marks_file() -> Iterator[Path]:
    """A file for one round's marks."""
    with tempfile.TemporaryDirectory(prefix="jobfn-bench-") as folder:
        yield Path(folder) / "marks"
