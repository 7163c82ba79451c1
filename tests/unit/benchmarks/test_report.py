import shutil
from pathlib import Path

import pytest

from benchmarks.errors import BenchError
from benchmarks.families import FAMILIES
from benchmarks.measurements import Comparison, Family
from benchmarks.processes import ROOT
from benchmarks.report import write_pages
from benchmarks.results import Result

PERFORMANCE = "https://github.com/constructive-io/jobfn/blob/main/docs/performance.md"
PAGES = ("README.md", "docs/performance.md", "docs/performance-appendix.md")
COMPARISONS = {
    1: [Comparison("against a Starlette route on the same server", [1.2, 1.3, 1.1], at_least=1.2)],
    2: [
        Comparison("against the platform's Node stack", [41, 39, 38], at_least=40),
        Comparison("against the same tasks in-process (`--local`)", skip_reason="it failed", at_least=0.5),
    ],
    9: [
        Comparison("total CPU per job, 2 workers against 1", [1.05], at_most=1.1),
        Comparison("total CPU per job, 4 workers against 1, on 2 cores", [1.2]),
    ],
}


def result(comparisons: dict[int, list[Comparison]]) -> Result:
    return Result(
        date="2030-01-31",
        quick=False,
        seconds=600,
        machine={"cpus": 2, "cpu": "x", "memory_gb": 8, "python": "3.13", "load": 0, "cpu_sets": "none"},
        server={"server_version": "15.1", "origin": "PostgreSQL"},
        versions={},
        families=[Family(n, f"Family {n}: title", comparisons=comparisons.get(n, [])) for n in FAMILIES],
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    blocks = ["bench", "bench:where", *(f"bench:{number}" for number in FAMILIES)]
    for page in PAGES:
        (tmp_path / page).write_text("".join(f"<!-- {name} -->\nold\n<!-- /{name} -->\n" for name in blocks))
    return tmp_path


def test_readme_has_a_verdict_for_each_target(root: Path) -> None:
    write_pages(result(COMPARISONS), root)
    rows = [line for line in (root / "README.md").read_text().splitlines() if line.startswith("|")][2:]
    assert len(rows) == 11
    assert rows[0] == (
        "| Whole path over HTTP, against the platform's Node stack | 39.00x | 38.00 to 41.00 | at least 40x "
        f"| missed: [why]({PERFORMANCE}#the-whole-path-over-http) |"
    )
    assert rows[1] == (
        "| Whole path over HTTP, against the same tasks in-process (`--local`) | not measured |  | at least 0.5x |  |"
    )
    assert rows[2] == (
        "| In-process (`--local`), against graphile-worker at its best settings, on Node | not measured |  |  |  |"
    )
    assert rows[7] == (
        "| Function app, against a Starlette route on the same server | 1.20x | 1.10 to 1.30 | at least 1.2x | met |"
    )
    assert rows[8] == (
        "| Total CPU per job, 2 workers against 1, PostgreSQL's included | 1.05x | 1.05 to 1.05 | at most 1.1x | met |"
    )
    assert rows[9] == (
        "| Total CPU per job, 4 workers against 1, on 2 cores, PostgreSQL's included | 1.20x | 1.20 to 1.20 |  |  |"
    )


def test_appendix_has_the_plots_that_were_drawn(root: Path) -> None:
    plots = root / "benchmarks/results"
    plots.mkdir(parents=True)
    (plots / "family-3.svg").touch()
    write_pages(result(COMPARISONS), root)
    text = (root / "docs/performance-appendix.md").read_text()
    assert [line for line in text.splitlines() if line.startswith("!")] == [
        "![Family 3](../benchmarks/results/family-3.svg)"
    ]


def test_pages_of_this_repository_have_all_blocks(root: Path) -> None:
    for page in PAGES:
        shutil.copy(ROOT / page, root / page)
    assert [page.name for page in write_pages(result(COMPARISONS), root)] == [
        "performance-appendix.md",
        "performance.md",
        "README.md",
    ]


def test_run_of_some_families_keeps_the_summaries(root: Path) -> None:
    partial = result(COMPARISONS)
    partial.families = partial.families[:2]
    assert write_pages(partial, root) == [root / "docs/performance-appendix.md"]
    assert (root / "README.md").read_text().startswith("<!-- bench -->\nold\n")


def test_renamed_comparison_is_an_error(root: Path) -> None:
    with pytest.raises(BenchError, match='family 2 has no comparison "against the platform\'s Node stack"'):
        write_pages(result({2: [Comparison("against something else", [1])]}), root)


def test_result_of_another_version_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "latest.json").write_text('{"families": [], "concurrency": 256}')
    with pytest.raises(BenchError, match="is from another version of the benchmark: run make bench first"):
        Result.load(tmp_path)


def test_result_survives_saving(tmp_path: Path) -> None:
    saved = result(COMPARISONS)
    saved.save(tmp_path)
    assert Result.load(tmp_path) == saved
