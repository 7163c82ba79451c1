"""``python -m benchmarks.report``: write the results of ``latest.json`` as tables into the pages.

``<!-- bench -->`` in ``docs/performance.md`` gets all targets and in ``README.md`` four rows;
``docs/performance-appendix.md`` gets each family's table (``<!-- bench:N -->``) and the environment
(``<!-- bench:where -->``). Each block ends with the same marker and a slash.
"""

import argparse
import re
import sys
import textwrap
from pathlib import Path

from benchmarks.errors import BenchError
from benchmarks.families import FAMILIES
from benchmarks.measurements import Comparison, Family, format_number
from benchmarks.processes import ROOT
from benchmarks.results import RESULTS_FOLDER, Result
from benchmarks.subjects import LOCAL_CONCURRENCY

PAGE_WIDTH = 120
#: Not in the table of targets: its server differs from jobfn's.
NO_SUMMARY = "against a bare ASGI app"
#: Rows of README.md: the family and the name of a comparison, and the label. ``{concurrency}`` is that of the run.
README_ROWS = {
    (2, "against the platform's Node stack"): (
        "Whole path over HTTP, `JOBS_CONCURRENCY={concurrency}`: "
        "against the platform's Node stack, which runs one job at a time"
    ),
    (4, "against pgqueuer's best"): (
        f"Local functions (in the worker, without HTTP), `JOBS_CONCURRENCY={LOCAL_CONCURRENCY}`: "
        "against pgqueuer's best"
    ),
    (5, "p99 over HTTP"): "Latency, `JOBS_CONCURRENCY={concurrency}`: p99 over HTTP",
    (7, "enqueue_many, against pgqueuer's bulk"): "Enqueueing: enqueue_many, against pgqueuer's bulk",
}
TARGET_HEADER = ["| what | measured | rounds | target | |", "| --- | ---: | --- | --- | --- |"]


def write_pages(result: Result, root: Path = ROOT) -> list[Path]:
    """Write the tables into the pages below a folder. Return the pages.

    Families that were not run keep their tables. The two summaries are written only after a run of all families.

    Raises:
        BenchError: A page has no markers.
    """
    measured_on = f"Measured on {result.heading}."
    appendix = {"bench:where": _wrap(f"{measured_on} {_environment(result)}")}
    appendix |= {f"bench:{family.number}": _family_tables(family) for family in result.families}
    pages = {root / "docs" / "performance-appendix.md": appendix}
    if len(result.families) == len(FAMILIES):
        pages[root / "docs" / "performance.md"] = {"bench": f"{measured_on}\n\n{_target_table(result)}"}
        pages[root / "README.md"] = {"bench": f"{measured_on}\n\n{_readme_table(result)}"}
    texts = {page: _replace_blocks(page, blocks) for page, blocks in pages.items()}
    for page, text in texts.items():
        page.write_text(text)
    return list(pages)


def _replace_blocks(page: Path, blocks: dict[str, str]) -> str:
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
    return f"{result.server['origin']}: {settings}. Versions: {versions}."


def _family_tables(family: Family) -> str:
    lines = ["| subject | median | unit | rounds |", "| --- | ---: | --- | --- |"]
    lines += [
        f"| {each.label} | {format_number(each.median)} | {each.unit} | {each.outcome} |"
        for each in family.measurements
    ]
    if family.comparisons:
        lines += ["", *TARGET_HEADER, *map(_target_row, family.comparisons)]
    for note in family.notes:
        lines += ["", _wrap(f"{note[0].upper()}{note[1:]}.")]
    return "\n".join(lines)


def _target_table(result: Result) -> str:
    rows = [
        _target_row(comparison, prefix=f"{family.short_title}: ")
        for family in result.families
        for comparison in family.comparisons
        if comparison.target and comparison.name != NO_SUMMARY
    ]
    return "\n".join([*TARGET_HEADER, *rows])


def _target_row(comparison: Comparison, prefix: str = "") -> str:
    cells = (comparison.value_text, comparison.range_text, comparison.target, comparison.verdict)
    return f"| {prefix}{comparison.name} | {' | '.join(cells)} |"


def _readme_table(result: Result) -> str:
    comparisons = {(family.number, each.name): each for family in result.families for each in family.comparisons}
    lines = ["| what | measured | rounds |", "| --- | ---: | --- |"]
    for key, label in README_ROWS.items():
        comparison = comparisons[key]
        text = label.format(concurrency=result.concurrency)
        lines.append(f"| {text} | {comparison.value_text} | {comparison.range_text} |")
    return "\n".join(lines)


def _wrap(text: str) -> str:
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
