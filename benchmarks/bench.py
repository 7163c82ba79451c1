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
from benchmarks.timestamps import TimestampReader

T = TypeVar("T")

#: Folder into which `make bench` installs the Node packages.
NODE_MODULES = ROOT / "benchmarks" / "peers" / "node_modules"
TEMPLATE_DATABASE = "jobfn_template"


@dataclass(frozen=True)
class Options:
    """Options of a run.

    Attributes:
        quick: Only the subjects of the target rows, for `make bench-quick`.
        rounds: Rounds per subject.
        python: Interpreter that runs jobfn.
        source: Checkout whose ``src`` is measured. None: the jobfn that the interpreter has.
        peers: Whether to measure peers too.
        only: Measure subjects whose name contains one of these. Empty: all.
        limit_seconds: Time for the whole run.
    """

    quick: bool = False
    rounds: int = 3
    python: str = sys.executable
    source: Path | None = None
    peers: bool = True
    only: Sequence[str] = ()
    limit_seconds: float = 720.0


@dataclass
class Bench:
    """A run in progress.

    Attributes:
        options: Its options.
        cluster: PostgreSQL server.
        console: Receives progress messages.
        family_deadline: Monotonic time at which the current family should end.
        started_at: Monotonic time of the start.
    """

    options: Options
    cluster: Cluster
    console: Console = field(default_factory=lambda: Console(stderr=True))
    family_deadline: float = float("inf")
    started_at: float = field(default_factory=time.monotonic)
    _has_template: bool = False

    def rounds(self, *, factor: int = 1) -> Iterator[int]:
        """Yield round numbers from 1: the option's number, and up to ``factor`` times as many while there is time."""
        required = self.options.rounds
        for number in range(1, required * factor + 1):
            if number > required and self.family_seconds_left <= 0:
                return
            yield number

    @property
    def seconds(self) -> float:
        """Seconds since the start of the run."""
        return time.monotonic() - self.started_at

    @property
    def seconds_left(self) -> float:
        """Seconds until the whole run's time is up."""
        return self.options.limit_seconds - self.seconds

    @property
    def family_seconds_left(self) -> float:
        """Seconds until the current family's time is up."""
        return self.family_deadline - time.monotonic()

    def round_order(self, subjects: Sequence[T], round_number: int) -> Sequence[T]:
        """Reverse the subjects in every second round, so that drift does not always affect the same one."""
        return subjects if round_number % 2 else subjects[::-1]

    def includes(self, subject: str) -> bool:
        """Whether ``--only`` selects a subject."""
        return not self.options.only or any(text in subject for text in self.options.only)

    def log(self, text: str) -> None:
        """Print a progress message."""
        self.console.print(text, style="dim", highlight=False, markup=False)

    def skip(self, family: Family, subject: str, unit: str, reason: object) -> None:
        """Record and print why a subject is not measured. Drop the rounds that it has."""
        family.skip(subject, unit, str(reason))
        self.log(f"  {subject}: not measured: {reason}")

    def fail(self, family: Family, subject: str, unit: str, error: Exception) -> None:
        """Record and print the last line of an error of a subject."""
        self.skip(family, subject, unit, f"it failed: {str(error).strip().splitlines()[-1]}")

    def jobfn_python(self, *arguments: str) -> list[str]:
        """Return a command of jobfn's interpreter."""
        return [self.options.python, *arguments]

    def jobfn_command(self, *arguments: str) -> list[str]:
        """Return a ``jobfn`` command. The interpreter does not need the script."""
        return self.jobfn_python("-c", "import sys; from jobfn.cli import main; sys.exit(main())", *arguments)

    def jobfn_variables(self, **variables: str) -> dict[str, str]:
        """Return the environment of jobfn's processes. All settings, the log level included, keep their defaults."""
        common = {"PYTHONPATH": str(ROOT)}
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
def timestamp_reader() -> Iterator[TimestampReader]:
    """Provide a folder for the timestamps of one round, and its reader."""
    with tempfile.TemporaryDirectory(prefix="jobfn-bench-") as folder:
        yield TimestampReader(Path(folder))
