"""What users' type checkers see."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FILES = [Path(__file__).with_name(name) for name in ("types_of_public_api.py", "types_of_enqueueing.py")]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_public_api_keeps_its_types(file: Path, tmp_path: Path) -> None:
    """mypy --strict agrees with each assert_type, and needs each ignore: types are neither lost nor widened."""
    found = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", "--no-error-summary"),
            *("--config-file", "", "--cache-dir", tmp_path, file),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (found.stdout, found.returncode) == ("", 0)


def test_pyright_agrees(tmp_path: Path) -> None:
    """pyright, strict by each file's first line, finds nothing either, and needs each ignore too."""
    found = subprocess.run(
        [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, *map(str, FILES)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,  # else it would read this project's settings, of which it has none
        env={**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},  # else it tells of newer releases of itself
    )
    assert (found.stdout.strip(), found.returncode) == ("0 errors, 0 warnings, 0 informations", 0)
