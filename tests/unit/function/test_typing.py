"""What users' type checkers see."""

import subprocess
import sys
from pathlib import Path

FILE = Path(__file__).parent / "types_of_public_api.py"


def test_the_public_api_keeps_its_types(tmp_path: Path) -> None:
    """mypy --strict agrees with each assert_type, and needs each ignore: types are neither lost nor widened."""
    found = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", "--no-error-summary"),
            *("--config-file", "", "--cache-dir", tmp_path, FILE),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (found.stdout, found.returncode) == ("", 0)
