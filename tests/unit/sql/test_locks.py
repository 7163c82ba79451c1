"""Advisory locks: two kinds of work never share a number by accident."""

from pathlib import Path

import jobfn
from jobfn.sql import locks

NUMBERS = {name: value for name, value in vars(locks).items() if name.endswith("_LOCK")}


def test_each_lock_has_its_number() -> None:
    """No number is declared twice."""
    assert len(NUMBERS) == len(set(NUMBERS.values())) == 3


def test_numbers_are_declared_in_one_place() -> None:
    """No other file of the package contains one."""
    for file in Path(jobfn.__file__).parent.rglob("*.*"):
        if file.suffix in {".py", ".sql"} and file.name != "locks.py":
            assert not any(str(number) in file.read_text("utf-8") for number in NUMBERS.values()), file
