"""Every error has a code, and every code an explanation."""

import inspect
import re
from collections import Counter
from pathlib import Path

import pytest

from jobfn import errors
from jobfn.explain import explanations
from support.commands import Command

CLASSES = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, errors.JobfnError)]
#: HTTP answers of functions and of the callback server (contract, section 2).
HTTP_ANSWERS = {
    *("F400", "F401", "F404", "F405", "F413", "F415", "F422", "F429", "F500", "F503", "F504"),
    *("C400", "C401", "C404", "C405", "C409", "C500", "C503"),
}


def test_every_class_has_its_own_code_except_the_two_of_400() -> None:
    shared = {code: count for code, count in Counter(each.code for each in CLASSES).items() if count > 1}
    assert shared == {"F400": 2}  # RequestError and BadRequest


def test_every_error_and_every_http_answer_is_explained() -> None:
    known = explanations()
    assert {each.code for each in CLASSES} | HTTP_ANSWERS == set(known)
    for each in known.values():
        assert re.fullmatch(r"[JFC]\d{3}", each.code)
        assert each.text.endswith("."), each.code
        assert each.url.startswith("https://constructive-io.github.io/jobfn/")


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        (
            "j105",
            (
                "J105  BlueprintError",
                "A blueprint cannot be parsed, or a trigger in it cannot work on its table.",
                "Correct the table, node or parameter that the message names.",
                "https://constructive-io.github.io/jobfn/triggers/",
            ),
        ),
        ("[C503]", ("C503  Database unreachable", "https://constructive-io.github.io/jobfn/reference/errors/#c503")),
    ],
)
async def test_explain_prints_meaning_advice_and_page(code: str, lines: tuple[str, ...], invoke: Command) -> None:
    result = await invoke("jobfn", "explain", code)
    assert result.code == 0
    assert set(lines) <= set(result.output.splitlines())


async def test_explain_lists_all_codes(invoke: Command) -> None:
    result = await invoke("jobfn", "explain")
    listed = result.output.splitlines()
    assert [line[:4] for line in listed] == sorted(explanations())
    assert "F422  InvalidPayload" in listed


async def test_error_line_ends_with_its_code(invoke: Command, tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text("{")
    broken = await invoke("jobfn", "triggers", "sql", "b.json", "--no-database")
    assert (broken.code, broken.output.endswith(" [J105]")) == (2, True)
    unknown = await invoke("jobfn", "explain", "J999")
    assert (unknown.code, unknown.output) == (
        2,
        "jobfn: the code 'J999' is unknown: `jobfn explain` lists all codes [J101]",
    )
