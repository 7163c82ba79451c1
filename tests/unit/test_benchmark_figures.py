"""How the benchmark reckons: ratios round by round, targets met and missed, and what is said of what is missing."""

import pytest
from benchmarks.figures import Family, from_json, shown, spread, suffix, to_json

UNIT = "jobs/s"


@pytest.fixture
def family() -> Family:
    """Three rounds of three subjects, one of which was not measured."""
    made = Family(2, "Whole path")
    made.figure("jobfn", UNIT).rounds = [900.0, 1000.0, 100.0]
    made.figure("slow", UNIT).rounds = [100.0, 100.0, 10.0]
    made.figure("quick", UNIT).rounds = [1800.0, 2000.0, 200.0]
    made.missing("gone", UNIT, "it is not installed")
    return made


def test_a_ratio_is_the_median_of_the_rounds_ratios(family: Family) -> None:
    """A round in which the whole machine was slow does not move it."""
    family.compare("against slow", ("jobfn", UNIT), [("slow", UNIT)], at_least=8)
    (ratio,) = family.ratios
    assert (ratio.rounds, ratio.value, ratio.met) == ([9.0, 10.0, 10.0], 10.0, True)
    assert ratio.target == "at least 8x"


def test_the_best_of_several_counts(family: Family) -> None:
    """Against a peer in several settings, the highest median is the one to beat; what is missing does not count."""
    family.compare("best", ("jobfn", UNIT), [("gone", UNIT), ("slow", UNIT), ("quick", UNIT)], at_least=1)
    assert (family.ratios[0].value, family.ratios[0].met) == (0.5, False)


@pytest.mark.parametrize(
    ("over", "under", "reason"),
    [
        ("jobfn", "gone", "it is not installed"),
        ("gone", "slow", "it is not installed"),
        ("jobfn", "unheard of", "unheard of was not measured"),
    ],
)
def test_a_ratio_without_both_sides_says_why(family: Family, over: str, under: str, reason: str) -> None:
    """Neither met nor missed, and no row for a subject that nobody knows."""
    subjects = len(family.figures)
    family.compare("x", (over, UNIT), [(under, UNIT)], at_least=1)
    assert (family.ratios[0].value, family.ratios[0].met, family.ratios[0].missing) == (None, None, reason)
    assert len(family.figures) == subjects


@pytest.mark.parametrize(("bound", "met"), [({"at_most": 25.0}, True), ({"at_most": 24.9}, False), ({}, None)])
def test_a_figure_by_itself_has_a_bound(bound: dict[str, float], *, met: bool | None) -> None:
    """At most so much: the bound itself is met; without one, nothing is."""
    family = Family(5, "Latency")
    family.figure("jobfn", "ms, p99").rounds = [20.0, 25.0, 90.0]
    family.bound("p99", ("jobfn", "ms, p99"), **bound)
    assert (family.ratios[0].value, family.ratios[0].met) == (25.0, met)


def test_what_is_written_is_read_again(family: Family) -> None:
    """The report sees what the run saw."""
    family.compare("against slow", ("jobfn", UNIT), [("slow", UNIT)], at_least=8)
    family.notes.append("a note")
    assert from_json(to_json(family)) == family


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(None, "", "-"), (12345.6, UNIT, "12,346"), (3.14159, "ms", "3.14"), (8.0, "x", "8.00")],
)
def test_numbers_have_three_digits(value: float | None, unit: str, text: str) -> None:
    """Enough to compare, no more than was measured."""
    assert shown(value, unit) == text


def test_spread_and_units_in_words() -> None:
    """The lowest and the highest round; a unit without what follows its comma."""
    assert spread([3.0, 1.0, 2.0]) == "1 to 3"
    assert spread([]) == ""
    assert (suffix("x"), suffix("ms, p99")) == ("x", " ms")
