"""Options of a run, and the context that every family uses: server, interpreters, time limits."""

import importlib.util
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
from benchmarks.errors import SubjectUnavailable
from benchmarks.measurements import Family
from benchmarks.processes import ROOT, run_command

T = TypeVar("T")

#: Folder into which `make bench` installs the Node packages.
NODE_MODULES = ROOT / "benchmarks" / "peers" / "node_modules"
TEMPLATE_DATABASE = "jobfn_template"


@dataclass(frozen=True)
class Options:
    """Options of a run.

    Attributes:
        quick: Fewer jobs, for `make bench-quick`.
        rounds: Rounds per subject.
        python: Interpreter that runs jobfn.
        source: Checkout whose ``src`` is measured. None: the jobfn that the interpreter has.
        peers: Whether to measure peers too.
        concurrency: ``JOBS_CONCURRENCY`` of jobfn's worker.
        scale: Factor for the numbers of jobs.
        only: Measure subjects whose name contains one of these. Empty: all.
        limit_seconds: Maximum duration of the whole run.
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
    """A run in progress.

    Attributes:
        options: Its options.
        cluster: PostgreSQL server.
        console: Receives progress messages.
        family_deadline: Monotonic time after which the current family starts no further round.
        started_at: Monotonic time of the start.
    """

    options: Options
    cluster: Cluster
    console: Console = field(default_factory=lambda: Console(stderr=True))
    family_deadline: float = float("inf")
    started_at: float = field(default_factory=time.monotonic)
    _has_template: bool = False

    def rounds(self, family: Family, *, factor: int = 1) -> Iterator[int]:
        """Yield round numbers from 1, up to ``factor`` times the option or until the family's time is up."""
        count = self.options.rounds * factor
        for number in range(1, count + 1):
            if number > 1 and time.monotonic() > self.family_deadline:
                family.notes.append(f"{number - 1} of {count} rounds: the time was up")
                self.log(f"  {family.notes[-1]}")
                return
            yield number

    @property
    def seconds_left(self) -> float:
        """Seconds until the whole run's time is up."""
        return self.started_at + self.options.limit_seconds - time.monotonic()

    def round_order(self, subjects: Sequence[T], round_number: int) -> Sequence[T]:
        """Reverse the subjects in every second round, so that drift does not always affect the same one."""
        return subjects if round_number % 2 else subjects[::-1]

    def job_count(self, full: int, *, quick: int) -> int:
        """Return the scaled number of jobs for a full or a quick run."""
        return max(1, round((quick if self.options.quick else full) * self.options.scale))

    def includes(self, subject: str) -> bool:
        """Whether ``--only`` selects a subject."""
        return not self.options.only or any(text in subject for text in self.options.only)

    def log(self, text: str) -> None:
        """Print a progress message."""
        self.console.print(text, style="dim", highlight=False, markup=False)

    def log_skipped(self, subject: str, reason: object) -> None:
        """Print why a subject is not measured."""
        self.log(f"  {subject}: not measured: {reason}")

    def jobfn_python(self, *arguments: str) -> list[str]:
        """Return a command of jobfn's interpreter."""
        return [self.options.python, *arguments]

    def jobfn_command(self, *arguments: str) -> list[str]:
        """Return a ``jobfn`` command. The interpreter does not need the script."""
        return self.jobfn_python("-c", "import sys; from jobfn.cli import main; sys.exit(main())", *arguments)

    def jobfn_variables(self, **variables: str) -> dict[str, str]:
        """Return the environment of jobfn's processes."""
        common = {"PYTHONPATH": str(ROOT), "LOG_LEVEL": "warning"}
        if self.options.source is not None:
            common["PYTHONPATH"] = os.pathsep.join([str(self.options.source / "src"), str(ROOT)])
            # Keep compiled modules out of the measured checkout.
            common["PYTHONPYCACHEPREFIX"] = str(Path(tempfile.gettempdir()) / "jobfn-bench-pycache")
        return common | variables

    def node_path(self) -> str:
        """Return the path of Node.

        Raises:
            SubjectUnavailable: Node or its packages are missing.
        """
        self._require_peers()
        node = shutil.which("node")
        if node is None:
            raise SubjectUnavailable("node is not installed")
        if not (NODE_MODULES / "graphile-worker").exists():
            raise SubjectUnavailable("the npm packages are not installed: make bench installs them if npm exists")
        return node

    def peer_python(self, package: str) -> str:
        """Return the interpreter for a Python peer.

        Raises:
            SubjectUnavailable: The package is missing.
        """
        self._require_peers()
        if importlib.util.find_spec(package) is None:
            hint = " (it needs Python 3.12)" if package == "oban" and sys.version_info < (3, 12) else ""
            raise SubjectUnavailable(f"{package} is not installed{hint}")
        return sys.executable

    def _require_peers(self) -> None:
        if not self.options.peers:
            raise SubjectUnavailable("--no-peers")

    async def create_migrated_database(self, database: str) -> str:
        """Create a database with jobfn's schema. Return its URL."""
        if not self._has_template:
            url = await self.cluster.create_database(TEMPLATE_DATABASE)
            variables = self.jobfn_variables(DATABASE_URL=url)
            await run_command("jobfn db migrate", self.jobfn_command("db", "migrate"), variables)
            self._has_template = True
        return await self.cluster.create_database(database, template=TEMPLATE_DATABASE)


@contextmanager
def timestamp_file() -> Iterator[Path]:
    """Provide a path for the timestamps of one round."""
    with tempfile.TemporaryDirectory(prefix="jobfn-bench-") as folder:
        yield Path(folder) / "timestamps"
