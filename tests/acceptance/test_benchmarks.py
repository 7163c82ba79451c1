"""The benchmark still runs: one family, few jobs, no peers. What it measures is its own business, not a test's."""

import json
from pathlib import Path

import pytest

from support.commands import Command, Finished

ROOT = Path(__file__).parent.parent.parent
DOCUMENT = "before\n<!-- bench:where -->\nold\n<!-- /bench:where -->\n<!-- bench:2 -->\nold\n<!-- /bench:2 -->\nafter\n"


@pytest.fixture
def benchmark(command: Command) -> Command:
    """Run a module of the benchmark's."""

    async def run(*arguments: str, **env: str) -> Finished:
        return await command("python", "-m", *arguments, PYTHONPATH=str(ROOT), **env)

    return run


async def test_the_whole_path_is_measured_and_written_down(benchmark: Command, tmp_path: Path) -> None:
    """A small run has a rate of jobfn's and of the HTTP limit, their ratio, and says why the others are left out."""
    few = ("--family", "2", "--rounds", "1", "--scale", "0.05", "--concurrency", "8", "--quick")
    ran = await benchmark("benchmarks", *few, "--no-peers", "--output", str(tmp_path))
    assert ran.code == 0, ran.output
    result = json.loads((tmp_path / "latest.json").read_text())
    (family,) = result["families"]
    figures = [figure for figure in family["figures"] if figure["unit"] == "jobs/s"]
    rates = {figure["subject"]: figure["median"] for figure in figures}
    assert rates["jobfn"] > 0
    assert rates["the HTTP limit: no database"] > 0
    reasons = {figure["subject"]: figure["missing"] for figure in figures}
    assert reasons["the platform's Node stack"] == "--no-peers"
    ratios = {ratio["name"]: ratio["value"] for ratio in family["ratios"]}
    assert ratios["against the HTTP limit"] == pytest.approx(rates["jobfn"] / rates["the HTTP limit: no database"])
    assert result["server"]["fsync"] == result["server"]["synchronous_commit"] == "on"

    document = tmp_path / "performance.md"
    document.write_text(DOCUMENT)
    written = await benchmark("benchmarks.report", "--results", str(tmp_path), "--docs", str(document))
    assert written.code == 0, written.output
    text = document.read_text()
    assert "old" not in text
    assert "| jobfn |" in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")


async def test_what_a_test_s_database_costs_is_measured(benchmark: Command) -> None:
    """Each step by itself, and the fixture as tests have it. How long they take is no test's business."""
    ran = await benchmark("benchmarks.fixture_cost", "--clones", "2")
    assert ran.code == 0, ran.output
    for step in ("create", "connect and query", "drop", "jobs_db, and a query on it", "a database for a test: "):
        assert step in ran.output
    wrong = await benchmark("benchmarks.fixture_cost", "--clones", "0")
    assert (wrong.code, wrong.output) == (2, "benchmark: --clones 0: give 1 or more")


async def test_a_report_without_a_run_says_what_to_do(benchmark: Command, tmp_path: Path) -> None:
    """There is nothing to tell before the first run."""
    ended = await benchmark("benchmarks.report", "--results", str(tmp_path))
    assert (ended.code, ended.output) == (2, f"benchmark: there is no {tmp_path}/latest.json: run make bench first")


async def test_a_document_without_its_markers_is_left_alone(benchmark: Command, tmp_path: Path) -> None:
    """The report names the markers that it looks for, and writes nothing."""
    machine = {"cpus": 2, "cpu": "x", "memory_gb": 1.0, "system": "x", "python": "3", "load": 0.0}
    server = {"server_version": "15", "origin": "x"}
    result = {"date": "2026", "quick": True, "machine": machine, "server": server, "versions": {}, "families": []}
    (tmp_path / "latest.json").write_text(json.dumps(result))
    document = tmp_path / "performance.md"
    document.write_text("nothing\n")
    ended = await benchmark("benchmarks.report", "--results", str(tmp_path), "--docs", str(document))
    assert ended.code == 2
    assert "has no lines <!-- bench:where --> and <!-- /bench:where -->" in ended.output
    assert document.read_text() == "nothing\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rounds", "0"), "--rounds: at least 1"),
        (("--family", "9"), "argument --family: invalid choice"),
        (("--source", "/nowhere"), "there is no src/jobfn in /nowhere"),
    ],
)
async def test_a_wrong_option_is_refused(benchmark: Command, arguments: tuple[str, ...], said: str) -> None:
    """One line says what is wrong with it; nothing is started."""
    ended = await benchmark("benchmarks", *arguments)
    assert ended.code == 2
    assert said in ended.output
