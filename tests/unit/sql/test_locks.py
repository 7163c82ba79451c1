"""Numbers of advisory locks are unique and declared in one place."""

from pathlib import Path

import jobfn
from jobfn.sql import locks

NUMBERS = {name: value for name, value in vars(locks).items() if name.endswith("_LOCK")}


def test_numbers_are_unique() -> None:
    assert len(NUMBERS) == len(set(NUMBERS.values())) == 4


def test_numbers_are_in_no_other_file() -> None:
    for file in Path(jobfn.__file__).parent.rglob("*.*"):
        if file.suffix in {".py", ".sql"} and file.name != "locks.py":
            assert not any(str(number) in file.read_text("utf-8") for number in NUMBERS.values()), file
