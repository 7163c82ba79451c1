"""``python -m benchmarks.report``: the figures of ``latest.json`` as tables in ``docs/performance.md``.

Each family's table goes between ``<!-- bench:N -->`` and ``<!-- /bench:N -->``, where and on what they were measured
between ``<!-- bench:where -->`` and its end. ``--readme`` writes the targets' table into README.md, between
``<!-- bench -->`` and ``<!-- /bench -->``.
"""

import argparse
import re
import sys
from pathlib import Path

from benchmarks.errors import BenchError
from benchmarks.figures import Family, Ratio, shown, spread, suffix
from benchmarks.programs import ROOT
from benchmarks.results import RESULTS, Result

DOCS = ROOT / "docs" / "performance.md"
README = ROOT / "README.md"


def where(result: Result) -> str:
    """When, on what, with which peers."""
    form = "quick form, " if result.quick else ""
    peers = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    settings = ", ".join(f"{name} {value}" for name, value in result.server.items() if name != "origin")
    return f"Measured on {result.date}, {form}{result.where}. {result.server['origin']}: {settings}. Versions: {peers}."


def family_tables(family: Family) -> str:
    """A family's figures and ratios in Markdown."""
    lines = ["| subject | median | unit | rounds |", "| --- | ---: | --- | --- |"]
    for figure in family.figures:
        said = f"not measured: {figure.missing}" if figure.missing else spread(figure.rounds)
        lines.append(f"| {figure.label} | {shown(figure.median)} | {figure.unit} | {said} |")
    if family.ratios:
        lines += ["", *ratio_table(family.ratios)]
    lines += [f"\n{note[0].upper()}{note[1:]}." for note in family.notes]
    return "\n".join(lines)


def ratio_table(ratios: list[Ratio], *, prefix: str = "") -> list[str]:
    """What came of the targets."""
    return [
        "| what | measured | rounds | target | |",
        "| --- | ---: | --- | --- | --- |",
        *(_ratio_row(ratio, prefix) for ratio in ratios),
    ]


def readme_table(result: Result) -> str:
    """All targets in one table, with date and machine."""
    rows = [
        _ratio_row(ratio, f"{family.title.split(':')[0]}: ")
        for family in result.families
        for ratio in family.ratios
        if ratio.target
    ]
    head = ["| what | measured | rounds | target | |", "| --- | ---: | --- | --- | --- |"]
    said = f"Measured on {result.date}{' in the quick form' if result.quick else ''}, {result.where}."
    return "\n".join([said, "", *head, *rows])


def _ratio_row(ratio: Ratio, prefix: str) -> str:
    met = "" if ratio.met is None else "met" if ratio.met else "missed"
    value = f"{shown(ratio.value, ratio.unit)}{suffix(ratio.unit)}" if ratio.value is not None else "not measured"
    return f"| {prefix}{ratio.name} | {value} | {spread(ratio.rounds, ratio.unit)} | {ratio.target} | {met} |"


def between(text: str, name: str, new: str, path: Path) -> str:
    """The text with what stands between a name's markers replaced.

    Raises:
        BenchError: There are no such markers.
    """
    pattern = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- /{re.escape(name)} -->)", re.DOTALL)
    if not pattern.search(text):
        raise BenchError(f"{path} has no lines <!-- {name} --> and <!-- /{name} -->: add them where the table belongs")
    return pattern.sub(lambda found: f"{found[1]}{new}\n{found[2]}", text)


def write_docs(result: Result, path: Path = DOCS) -> None:
    """Fill the tables of ``docs/performance.md``; families that were not run keep theirs."""
    text = between(path.read_text(), "bench:where", where(result), path)
    for family in result.families:
        text = between(text, f"bench:{family.number}", family_tables(family), path)
    path.write_text(text)


def write_readme(result: Result, path: Path = README) -> None:
    """Fill the table of README.md."""
    path.write_text(between(path.read_text(), "bench", readme_table(result), path))


def main(arguments: list[str]) -> int:
    """Returns the exit code: 0 written, 2 not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder of latest.json")
    parser.add_argument("--docs", type=Path, default=DOCS, help="the page to write into")
    parser.add_argument("--readme", action="store_true", help="the table of README.md, too")
    asked = parser.parse_args(arguments)
    try:
        result = Result.load(asked.results)
        write_docs(result, asked.docs)
        if asked.readme:
            write_readme(result)
    except BenchError as error:
        sys.stderr.write(f"benchmark: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
