"""Measurements, comparisons and targets. Pure; written to ``latest.json``.

A measurement is the median of its rounds. A comparison divides round by round two subjects that ran right after each
other and takes the median of the ratios, so that a slow moment of the machine affects both sides.
"""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

#: A subject and a unit.
Key = tuple[str, str]


@dataclass
class Measurement:
    """One subject's values in one unit.

    Attributes:
        subject: What was measured.
        unit: Unit of the values.
        rounds: One value per round.
        skip_reason: Why there are no rounds. None: it was measured.
        note: Settings, or a remark for the table.
    """

    subject: str
    unit: str
    rounds: list[float] = field(default_factory=list)
    skip_reason: str | None = None
    note: str = ""

    @property
    def label(self) -> str:
        """The subject with its settings."""
        return f"{self.subject} ({self.note})" if self.note else self.subject

    @property
    def median(self) -> float | None:
        """Median of the rounds. None: not measured."""
        return statistics.median(self.rounds) if self.rounds else None

    @property
    def missing_reason(self) -> str | None:
        """Why there is no median. None: there is one."""
        return None if self.rounds else self.skip_reason or f"{self.subject} was not measured"

    @property
    def outcome(self) -> str:
        """The range of the rounds, or why there are none."""
        return f"not measured: {self.skip_reason}" if self.skip_reason else format_range(self.rounds)


@dataclass
class Comparison:
    """One measurement divided by another, or one by itself, with an optional target.

    Attributes:
        name: What is compared.
        rounds: One value per round.
        at_least: Target, if it is a lower bound.
        at_most: Target, if it is an upper bound.
        unit: "x" for a ratio.
        skip_reason: Why there are no rounds. None: there are.
    """

    name: str
    rounds: list[float] = field(default_factory=list)
    at_least: float | None = None
    at_most: float | None = None
    unit: str = "x"
    skip_reason: str | None = None

    @property
    def value(self) -> float | None:
        """Median of the rounds. None: not measured."""
        return statistics.median(self.rounds) if self.rounds else None

    @property
    def is_met(self) -> bool | None:
        """Whether the target is met. None: no target or no value."""
        if self.value is None:
            return None
        if self.at_least is not None:
            return self.value >= self.at_least
        return self.value <= self.at_most if self.at_most is not None else None

    @property
    def verdict(self) -> str:
        """``met``, ``missed`` or empty."""
        return "" if self.is_met is None else "met" if self.is_met else "missed"

    @property
    def target(self) -> str:
        """The target as text, or empty."""
        if self.at_least is not None:
            return f"at least {self.at_least:g}{format_unit(self.unit)}"
        return f"at most {self.at_most:g}{format_unit(self.unit)}" if self.at_most is not None else ""

    @property
    def value_text(self) -> str:
        """The value with its unit."""
        return (
            "not measured" if self.value is None else f"{format_number(self.value, self.unit)}{format_unit(self.unit)}"
        )

    @property
    def range_text(self) -> str:
        """The lowest and the highest round."""
        return format_range(self.rounds, self.unit)


@dataclass
class Family:
    """The results of one module of ``families``.

    Attributes:
        number: Number on the command line.
        title: Heading.
        measurements: Values of the subjects.
        comparisons: Ratios and targets.
        notes: Remarks on how this run measured.
        seconds: Duration.
    """

    number: int
    title: str
    measurements: list[Measurement] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def short_title(self) -> str:
        """The title up to its colon."""
        return self.title.partition(":")[0]

    def measurement(self, subject: str, unit: str) -> Measurement:
        """Return the measurement of a subject in a unit. Add it if it does not exist."""
        measurement = self._find((subject, unit))
        if measurement is None:
            measurement = Measurement(subject, unit)
            self.measurements.append(measurement)
        return measurement

    def _find(self, key: Key) -> Measurement | None:
        return next((each for each in self.measurements if (each.subject, each.unit) == key), None)

    def _find_or_empty(self, key: Key) -> Measurement:
        """Return a measurement, or one without rounds that is not added."""
        return self._find(key) or Measurement(*key)

    def skip(self, subject: str, unit: str, reason: str) -> None:
        """Record why a subject was not measured, with the row of one unit. Remove its other rows."""
        self.measurements = [each for each in self.measurements if each.subject != subject or each.unit == unit]
        measurement = self.measurement(subject, unit)
        measurement.rounds.clear()
        measurement.skip_reason = reason

    def compare(
        self,
        name: str,
        numerator: Key,
        denominators: Sequence[Key],
        *,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> None:
        """Add the ratio of a measurement to the highest of the denominators."""
        comparison = Comparison(name, at_least=at_least, at_most=at_most)
        self.comparisons.append(comparison)
        above = self._find_or_empty(numerator)
        candidates = [each for each in map(self._find_or_empty, denominators) if each.rounds]
        if above.rounds and candidates:
            below = max(candidates, key=lambda each: each.median or 0.0)
            comparison.rounds = [a / b for a, b in zip(above.rounds, below.rounds, strict=False) if b]
        else:
            comparison.skip_reason = above.missing_reason or self._find_or_empty(denominators[0]).missing_reason

    def add_target(self, name: str, key: Key, *, at_most: float) -> None:
        """Add an upper bound for a single measurement."""
        measurement = self._find_or_empty(key)
        self.comparisons.append(
            Comparison(
                name,
                list(measurement.rounds),
                at_most=at_most,
                unit=measurement.unit,
                skip_reason=measurement.missing_reason,
            )
        )

    def to_json(self) -> dict[str, Any]:
        """Return JSON data, with medians and met targets for readers that do not compute them."""
        data = asdict(self)
        for measurement, source in zip(data["measurements"], self.measurements, strict=True):
            measurement["median"] = source.median
        for comparison, origin in zip(data["comparisons"], self.comparisons, strict=True):
            comparison |= {"value": origin.value, "is_met": origin.is_met}
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Family":
        """Parse what ``to_json`` returned."""
        measurements = [Measurement(**_without(each, "median")) for each in data["measurements"]]
        comparisons = [Comparison(**_without(each, "value", "is_met")) for each in data["comparisons"]]
        return cls(data["number"], data["title"], measurements, comparisons, data["notes"], data["seconds"])


def _without(data: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key not in keys}


def format_unit(unit: str) -> str:
    """Return a unit as it follows a number, without the part after its comma."""
    return "x" if unit == "x" else f" {unit.partition(',')[0]}"


def format_number(value: float | None, unit: str = "") -> str:
    """Return a number with three significant digits and thousands separators."""
    if value is None:
        return "-"
    if unit == "x":
        return f"{value:.2f}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def format_range(rounds: Sequence[float], unit: str = "") -> str:
    """Return the lowest and the highest round."""
    return f"{format_number(min(rounds), unit)} to {format_number(max(rounds), unit)}" if rounds else ""
