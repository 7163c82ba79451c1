"""A virtual environment, and the commands of a README."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Environment:
    """A virtual environment.

    Attributes:
        folder: Its folder.
        env: Environment variables for its commands."""

    folder: Path
    env: dict[str, str]

    def run_unchecked(self, *command: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
        """Run a command of the environment."""
        program = str(self.folder / "bin" / command[0])
        return subprocess.run(
            [program, *command[1:]],
            capture_output=True,
            text=True,
            check=False,
            env=self.env,
            cwd=cwd or self.folder,
            stdin=subprocess.DEVNULL,
        )

    def run(self, *command: str, cwd: Path | None = None) -> str:
        """Run a command that must succeed and return its standard output."""
        process = self.run_unchecked(*command, cwd=cwd)
        assert process.returncode == 0, f"{' '.join(command)}\n{process.stdout}\n{process.stderr}"
        return process.stdout


def commands_in(readme: Path, section: str) -> list[str]:
    """Return the console commands in a section of a README, in order."""
    text = readme.read_text(encoding="utf-8")
    match = re.search(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert match is not None, f"{readme} has no section {section!r}"
    blocks = re.findall(r"```console\n(.*?)```", match[1], re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line.removeprefix("$ ").partition("  #")[0].strip() for line in lines if line.startswith("$ ")]
