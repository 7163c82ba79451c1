"""Figures as values: rounds of subjects, ratios between them, targets. Pure; what is written to ``latest.json``.

A figure is the median of its rounds. A ratio is taken round by round, between subjects that ran one after the other,
and then the median of those: what slows the whole machine down for a while slows both.
"""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Figure:
    """One subject's figure.

    Attributes:
        subject: What was measured.
        unit: Of what.
        rounds: One value a round.
        missing: Why it was not measured; then there are no rounds.
        note: With which settings, or what came out beside it.
    """

    subject: str
    unit: str
    rounds: list[float] = field(default_factory=list)
    missing: str | None = None
    note: str = ""

    @property
    def label(self) -> str:
        """Who, with which settings."""
        return f"{self.subject} ({self.note})" if self.note else self.subject

    @property
    def median(self) -> float | None:
        """Of the rounds."""
        return statistics.median(self.rounds) if self.rounds else None


@dataclass
class Ratio:
    """What a target is about: one figure over another, or one by itself.

    Attributes:
        name: What it says.
        rounds: One value a round.
        at_least: The target, if it is a lower bound.
        at_most: The target, if it is an upper bound.
        unit: "x" for a ratio.
        missing: Why there is none.
    """

    name: str
    rounds: list[float] = field(default_factory=list)
    at_least: float | None = None
    at_most: float | None = None
    unit: str = "x"
    missing: str | None = None

    @property
    def value(self) -> float | None:
        """The median of the rounds."""
        return statistics.median(self.rounds) if self.rounds else None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is no target or no value."""
        if self.value is None:
            return None
        if self.at_least is not None:
            return self.value >= self.at_least
        return self.value <= self.at_most if self.at_most is not None else None

    @property
    def target(self) -> str:
        """The target in words."""
        if self.at_least is not None:
            return f"at least {self.at_least:g}{suffix(self.unit)}"
        return f"at most {self.at_most:g}{suffix(self.unit)}" if self.at_most is not None else ""


@dataclass
class Family:
    """What one module of ``families`` found.

    Attributes:
        number: As on the command line.
        title: What it is about.
        figures: Of each subject.
        ratios: Between them, and their targets.
        notes: What a reader should know of how it was measured in this run.
        seconds: How long it took.
    """

    number: int
    title: str
    figures: list[Figure] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def figure(self, subject: str, unit: str) -> Figure:
        """The figure of this subject in this unit, a new one if need be."""
        figure = self._find(subject, unit)
        if figure is None:
            figure = Figure(subject, unit)
            self.figures.append(figure)
        return figure

    def _find(self, subject: str, unit: str) -> Figure | None:
        for figure in self.figures:
            if (figure.subject, figure.unit) == (subject, unit):
                return figure
        return None

    def _look(self, key: tuple[str, str]) -> Figure:
        """The figure of this subject in this unit; one without rounds where there is none."""
        return self._find(*key) or Figure(*key)

    def missing(self, subject: str, unit: str, reason: str) -> None:
        """This subject was not measured."""
        self.figure(subject, unit).missing = reason

    def compare(
        self,
        name: str,
        over: tuple[str, str],
        under: Sequence[tuple[str, str]],
        *,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> None:
        """Add the ratio of one figure over the best (the highest) of others; each given by subject and unit."""
        ratio = Ratio(name, at_least=at_least, at_most=at_most)
        above = self._look(over)
        present = [figure for figure in map(self._look, under) if figure.median is not None]
        if not above.rounds or not present:
            lacking = above if not above.rounds else self._look(under[0])
            ratio.missing = lacking.missing or f"{lacking.subject} was not measured"
        else:
            below = max(present, key=lambda figure: figure.median or 0.0)
            ratio.rounds = [a / b for a, b in zip(above.rounds, below.rounds, strict=False) if b]
        self.ratios.append(ratio)

    def bound(
        self,
        name: str,
        key: tuple[str, str],
        *,
        at_most: float | None = None,
        at_least: float | None = None,
    ) -> None:
        """Add a target for one figure by itself."""
        figure = self._look(key)
        self.ratios.append(
            Ratio(
                name,
                list(figure.rounds),
                at_least=at_least,
                at_most=at_most,
                unit=figure.unit,
                missing=None if figure.rounds else figure.missing or f"{figure.subject} was not measured",
            )
        )


def suffix(unit: str) -> str:
    """A unit as it follows a number."""
    return "x" if unit == "x" else f" {unit.partition(',')[0]}"


def shown(value: float | None, unit: str = "") -> str:
    """A number as people read it: three significant digits, thousands apart."""
    if value is None:
        return "-"
    if unit == "x":
        return f"{value:.2f}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def spread(rounds: Sequence[float], unit: str = "") -> str:
    """The lowest and the highest round."""
    return f"{shown(min(rounds), unit)} to {shown(max(rounds), unit)}" if rounds else ""


def to_json(family: Family) -> dict[str, Any]:
    """With the medians and what came of the targets, for readers that do not reckon."""
    data = asdict(family)
    for figure, source in zip(data["figures"], family.figures, strict=True):
        figure["median"] = source.median
    for ratio, origin in zip(data["ratios"], family.ratios, strict=True):
        ratio |= {"value": origin.value, "met": origin.met}
    return data


def from_json(data: dict[str, Any]) -> Family:
    """What ``to_json`` wrote."""
    figures = [Figure(**{key: value for key, value in one.items() if key != "median"}) for one in data["figures"]]
    ratios = [Ratio(**{k: v for k, v in one.items() if k not in {"value", "met"}}) for one in data["ratios"]]
    return Family(data["number"], data["title"], figures, ratios, data["notes"], data["seconds"])
