"""A run's result: what was found, when, on what; written to ``latest.json`` and read again by the report."""

import datetime as dt
import json
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil

from benchmarks.errors import BenchError
from benchmarks.figures import Family, from_json, to_json
from benchmarks.subjects import versions

FILE = "latest.json"
RESULTS = Path(__file__).parent / "results"


@dataclass
class Result:
    """One run.

    Attributes:
        families: What was found.
        machine: On what, and how busy it was.
        server: Which PostgreSQL, and its settings that matter.
        quick: Whether it was the quick form.
        date: When, in UTC.
        versions: Of the peers.
    """

    families: list[Family]
    machine: dict[str, Any]
    server: dict[str, str]
    quick: bool
    date: str = field(default_factory=lambda: dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"))
    versions: dict[str, str] = field(default_factory=versions)

    def save(self, folder: Path) -> None:
        """Write ``latest.json`` into this folder."""
        folder.mkdir(parents=True, exist_ok=True)
        data = {
            "date": self.date,
            "quick": self.quick,
            "machine": self.machine,
            "server": self.server,
            "versions": self.versions,
            "families": [to_json(family) for family in self.families],
        }
        (folder / FILE).write_text(json.dumps(data, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What ``save`` wrote.

        Raises:
            BenchError: There is none.
        """
        if not (folder / FILE).exists():
            raise BenchError(f"there is no {folder / FILE}: run make bench first")
        data = json.loads((folder / FILE).read_text())
        return cls(
            families=[from_json(family) for family in data["families"]],
            machine=data["machine"],
            server=data["server"],
            quick=data["quick"],
            date=data["date"],
            versions=data["versions"],
        )

    @property
    def where(self) -> str:
        """The machine, in one line."""
        busy = f", load {self.machine['load']:.1f} at the start" if self.machine["load"] > 1 else ""
        return (
            f"{self.machine['cpus']} cores ({self.machine['cpu']}), {self.machine['memory_gb']:.0f} GB, "
            f"PostgreSQL {self.server['server_version'].split()[0]}, Python {self.machine['python']}{busy}"
        )


def describe_machine() -> dict[str, Any]:
    """What the figures depend on."""
    names = [line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return {
        "cpus": os.cpu_count(),
        "cpu": names[0] if names else platform.machine(),
        "memory_gb": psutil.virtual_memory().total / 1e9,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": os.getloadavg()[1],
    }


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
