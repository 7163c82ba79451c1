"""Each line of docs/threat-model.md names a test that exists."""

import re

import pytest

from support.docs.blocks import ROOT

LINES = [
    line for line in (ROOT / "docs" / "threat-model.md").read_text("utf-8").splitlines() if line.startswith("| can")
]


@pytest.mark.parametrize("line", LINES)
def test_line_has_a_mechanism_and_a_test(line: str) -> None:
    verb, what, because, test = re.split(r" ?\| ?", line.removeprefix("| ").removesuffix(" |"))
    assert verb in {"can", "cannot"}
    assert what
    assert because
    name, _, function = test.strip("`").partition("::")
    definition = re.compile(rf"^(async )?def {function}\(", re.MULTILINE)
    assert [path for path in (ROOT / "tests").rglob(name) if definition.search(path.read_text("utf-8"))]


def test_every_party_has_lines() -> None:
    assert len(LINES) >= 40
