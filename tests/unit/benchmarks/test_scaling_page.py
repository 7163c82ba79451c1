"""The results of soak and simulation in the page about scaling."""

from pathlib import Path

import pytest

from benchmarks.errors import BenchError
from benchmarks.scaling_page import write_simulation, write_soak
from benchmarks.simulation import Plan, SimulationResult

SOAK = {
    "machine": {"cpus": 2, "cpu": "A processor", "load": 1.96},
    "verdicts": {
        "service_megabytes": {"median": 73.921, "growth": 0.518, "bound": 12.392, "is_flat": True},
        "claim_milliseconds": {"median": 5.0, "growth": 7.4, "bound": 4.5, "is_flat": False},
    },
    "jobs": 60_000,
    "left": 3,
    "seconds": 30.0,
    "samples": {"jobs": [1000.0, 2000.0, 4000.0, 8000.0, 16_000.0, 59_000.0]},
}


@pytest.fixture
def page(tmp_path: Path) -> Path:
    page = tmp_path / "docs" / "scaling.md"
    page.parent.mkdir()
    page.write_text(
        "before\n<!-- simulation -->\nold\n<!-- /simulation -->\n<!-- soak -->\nold\n<!-- /soak -->\nafter\n"
    )
    return page


def test_soak_names_what_grew(page: Path, tmp_path: Path) -> None:
    write_soak(SOAK, has_plot=True, root=tmp_path)
    text = page.read_text().replace("\n", " ")
    assert "60,000 jobs ran in 0.5 minutes, which is 2,000 per second, on 2 cores (A processor) with load 2.0" in text
    assert "3 jobs were left. The processes warm up during the first 2,000 jobs." in text
    assert "Afterwards, time to claim one job, ms grew beyond its bound:" in text
    assert "| resident memory of the service, MB | 73.92 | +0.52 | 12.4 | flat |" in text
    assert "| time to claim one job, ms | 5 | +7.4 | 4.5 | grows |" in text
    assert text.startswith("before ")
    assert text.endswith("soak.svg) <!-- /soak --> after ")


def test_soak_without_growth(page: Path, tmp_path: Path) -> None:
    flat = {"service_megabytes": SOAK["verdicts"]["service_megabytes"]}  # type: ignore[index]
    write_soak({**SOAK, "verdicts": flat}, has_plot=False, root=tmp_path)
    assert "Afterwards, nothing grew beyond its bound" in page.read_text().replace("\n", " ")
    assert "soak.svg" not in page.read_text()


def test_simulation_shows_times_and_shares(page: Path, tmp_path: Path) -> None:
    result = SimulationResult(
        plan=Plan(),
        jobs=252_000,
        lost=0,
        doubled=1,
        fairness=0.957,
        waits={"quick": (0.002, 0.023), "slow": (0.119, 11.159)},
        polls_per_second=3.905,
        empty_polls=0.647,
        polls_per_notification=2.093,
        recovery_seconds=31.4,
        catch_up_seconds=5.8,
    )
    write_simulation(result, tmp_path)
    text = page.read_text().replace("\n", " ")
    assert "1,000 workers on 50 databases, seed 1." in text
    assert "100 workers were killed; after two thirds, 5 databases were down for 10 seconds" in text
    assert "| jobs; lost; run twice | 252,000; 0; 1 |" in text
    assert "| wait of the slow jobs: median, 99 % | 119 ms, 11.2 s |" in text
    assert "of these empty | 3.9; 65 % |" in text


def test_page_without_a_place_for_the_result(page: Path, tmp_path: Path) -> None:
    page.write_text("nothing here")
    with pytest.raises(BenchError, match="soak"):
        write_soak(SOAK, has_plot=False, root=tmp_path)
