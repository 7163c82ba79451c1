"""``python -m benchmarks.report``: write the results of ``latest.json`` as tables into the pages.

``<!-- bench -->`` gets the target rows in ``README.md`` and all comparisons with a target in ``docs/performance.md``;
``docs/performance-appendix.md`` gets each family's table and plot (``<!-- bench:N -->``) and the environment
(``<!-- bench:where -->``). Each block ends with the same marker and a slash.
"""

import argparse
import re
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchError
from benchmarks.families import FAMILIES
from benchmarks.measurements import Comparison, Family, format_number
from benchmarks.processes import ROOT
from benchmarks.results import RESULTS_FOLDER, Result

PAGE_WIDTH = 120
#: README.md is also the page on the package index, which has no files to link to.
PERFORMANCE_URL = "https://github.com/constructive-io/jobfn/blob/main/docs/performance.md"
TARGET_HEADER = ["| what | measured | rounds | target | |", "| --- | ---: | --- | --- | --- |"]


@dataclass(frozen=True)
class ReadmeRow:
    """A row of README.md.

    Attributes:
        family: Number of the family.
        name: Beginning of the name of its comparison.
        label: The row's text. ``{name}`` is the name of the comparison.
        section: Section of ``docs/performance.md`` that says what limits the row.
    """

    family: int
    name: str
    label: str
    section: str


README_ROWS = (
    ReadmeRow(2, "against the platform's Node stack", "Whole path over HTTP, {name}", "the-whole-path-over-http"),
    ReadmeRow(2, "against the same tasks", "Whole path over HTTP, {name}", "the-whole-path-over-http"),
    ReadmeRow(
        4,
        "against graphile-worker's best",
        "In-process (`--local`), against graphile-worker at its best settings, on Node",
        "local-functions",
    ),
    ReadmeRow(7, "enqueue_many, against pgqueuer", "`enqueue_many`, against pgqueuer's bulk call", "enqueueing"),
    ReadmeRow(7, "add_job in one statement", "`add_job` in one statement, against pgqueuer's bulk call", "enqueueing"),
    ReadmeRow(7, "INSERT with a DataJobTrigger", "{name}", "enqueueing"),
    ReadmeRow(5, "median over HTTP, against graphile", "Latency, {name}", "latency"),
    ReadmeRow(1, "against a Starlette route", "Function app, {name}", "the-function-app"),
    ReadmeRow(9, "total CPU per job, 2", "{name}, PostgreSQL's included", "several-workers"),
    ReadmeRow(9, "total CPU per job, 4", "{name}, PostgreSQL's included", "several-workers"),
    ReadmeRow(11, "rate after", "Whole path over HTTP, {name}", "an-open-transaction"),
)


def write_pages(result: Result, root: Path = ROOT) -> list[Path]:
    """Write the tables into the pages below a folder. Return the pages.

    Families that were not run keep their tables. The two summaries are written only after a run of all families.

    Raises:
        BenchError: A page has no markers.
    """
    measured_on = f"Measured on {result.heading}."
    appendix = {"bench:where": wrap(f"{measured_on} {_environment(result)}")}
    appendix |= {f"bench:{family.number}": _family_tables(family) + _plot(family, root) for family in result.families}
    pages = {root / "docs" / "performance-appendix.md": appendix}
    if len(result.families) == len(FAMILIES):
        pages[root / "docs" / "performance.md"] = {"bench": f"{measured_on}\n\n{_target_table(result)}"}
        pages[root / "README.md"] = {"bench": f"{measured_on}\n\n{_readme_table(result)}"}
    texts = {page: replace_blocks(page, blocks) for page, blocks in pages.items()}
    for page, text in texts.items():
        page.write_text(text)
    return list(pages)


def replace_blocks(page: Path, blocks: dict[str, str]) -> str:
    """Return the text of a page with new blocks.

    Raises:
        BenchError: The page has no markers.
    """
    text = page.read_text()
    for name, content in blocks.items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        pattern = re.compile(f"(?<={re.escape(start)}).*?(?={re.escape(end)})", re.DOTALL)
        text, count = pattern.subn(lambda _, content=content: f"{content}\n", text)  # type: ignore[misc]
        if count != 1:
            raise BenchError(f"{page} must have one block {start.strip()} ... {end}: add it where the table belongs")
    return text


def _environment(result: Result) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in result.server.items() if name != "origin")
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    return (
        f"{result.server['origin']}: {settings}. CPU sets: {result.machine['cpu_sets']}. Versions: {versions}. "
        f"The run took {result.seconds / 60:.1f} minutes."
    )


def _family_tables(family: Family) -> str:
    lines = ["| subject | median | unit | rounds |", "| --- | ---: | --- | --- |"]
    lines += [
        f"| {each.label} | {format_number(each.median)} | {each.unit} | {each.outcome} |"
        for each in family.measurements
    ]
    if family.comparisons:
        lines += ["", *TARGET_HEADER, *map(_target_row, family.comparisons)]
    for note in family.notes:
        lines += ["", wrap(f"{note[0].upper()}{note[1:]}.")]
    return "\n".join(lines)


def _plot(family: Family, root: Path) -> str:
    """Return the plot of a family, or nothing if it was not drawn."""
    path = Path("benchmarks") / "results" / f"family-{family.number}.svg"
    return f"\n\n![{family.short_title}](../{path})" if (root / path).exists() else ""


def _target_table(result: Result) -> str:
    rows = [
        _target_row(comparison, prefix=f"{family.short_title}: ")
        for family in result.families
        for comparison in family.comparisons
        if comparison.target
    ]
    return "\n".join([*TARGET_HEADER, *rows])


def _target_row(comparison: Comparison, prefix: str = "") -> str:
    cells = (comparison.value_text, comparison.range_text, comparison.target, comparison.verdict)
    return f"| {prefix}{comparison.name} | {' | '.join(cells)} |"


def _readme_table(result: Result) -> str:
    families = {family.number: family for family in result.families}
    return "\n".join([*TARGET_HEADER, *(_readme_row(row, families[row.family]) for row in README_ROWS)])


def _readme_row(row: ReadmeRow, family: Family) -> str:
    found = _find(family, row.name) if family.comparisons else Comparison(row.name)
    label = row.label.format(name=found.name)
    verdict = f"missed: [why]({PERFORMANCE_URL}#{row.section})" if found.is_met is False else found.verdict
    cells = (found.value_text, found.range_text, found.target, verdict)
    return f"| {label[0].upper()}{label[1:]} | {' | '.join(cells)} |"


def _find(family: Family, name: str) -> Comparison:
    for comparison in family.comparisons:
        if comparison.name.startswith(name):
            return comparison
    raise BenchError(f"family {family.number} has no comparison {name!r}: change README_ROWS or the family")


def wrap(text: str) -> str:
    """Return a paragraph in lines of the width of a page."""
    return textwrap.fill(text, PAGE_WIDTH, break_long_words=False, break_on_hyphens=False)


def main(arguments: list[str]) -> int:
    """Write the pages. Return the exit code: 0, or 2 on an error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS_FOLDER, help="folder of latest.json")
    try:
        pages = write_pages(Result.load(parser.parse_args(arguments).results))
    except BenchError as error:
        sys.stderr.write(f"benchmark: {error}\n")
        return 2
    print(f"written: {', '.join(str(page.relative_to(ROOT)) for page in pages)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
