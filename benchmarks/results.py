"""Result of a run. Written to ``latest.json`` and read by the report."""

import datetime as dt
import json
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil

from benchmarks.cpus import describe_cpu_sets
from benchmarks.errors import BenchError
from benchmarks.measurements import Family
from benchmarks.peer_libraries import installed_versions

RESULT_FILE = "latest.json"
RESULTS_FOLDER = Path(__file__).parent / "results"


@dataclass(kw_only=True)
class Result:
    """Result of one run.

    Attributes:
        date: Time of the run, in UTC.
        quick: Whether it was a quick run.
        seconds: Duration.
        machine: Hardware, system, Python and load at the start.
        server: PostgreSQL's origin and its settings.
        versions: Versions of the peers and of jobfn's main dependencies.
        families: Measurements.
    """

    date: str = field(default_factory=lambda: dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"))
    quick: bool
    seconds: float
    machine: dict[str, Any]
    server: dict[str, str]
    versions: dict[str, str] = field(default_factory=installed_versions)
    families: list[Family]

    def save(self, folder: Path) -> None:
        """Write ``latest.json`` into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        data = vars(self) | {"families": [family.to_json() for family in self.families]}
        (folder / RESULT_FILE).write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            BenchError: There is no result.
        """
        file = folder / RESULT_FILE
        if not file.exists():
            raise BenchError(f"{file} does not exist: run make bench first")
        data = json.loads(file.read_text())
        try:
            return cls(**data | {"families": [Family.from_json(family) for family in data["families"]]})
        except (KeyError, TypeError) as error:
            raise BenchError(f"{file} is from another version of the benchmark: run make bench first") from error

    @property
    def heading(self) -> str:
        """Date, machine and versions in one line."""
        load = f", load {self.machine['load']:.1f} at the start" if self.machine["load"] > 1 else ""
        return (
            f"{self.date}{', quick run' if self.quick else ''}, {self.machine['cpus']} cores ({self.machine['cpu']}), "
            f"{self.machine['memory_gb']:.0f} GB, PostgreSQL {self.server['server_version'].split()[0]}, "
            f"Python {self.machine['python']}{load}"
        )


def describe_machine() -> dict[str, Any]:
    """Return what the measurements depend on."""
    models = [line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return {
        "cpus": os.cpu_count(),
        "cpu": models[0] if models else platform.machine(),
        "memory_gb": psutil.virtual_memory().total / 1e9,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": os.getloadavg()[1],
        "cpu_sets": describe_cpu_sets(),
    }


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
