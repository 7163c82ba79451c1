"""Draw one SVG per family: bars with the range of the rounds, and the targets below."""

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.measurements import Comparison, Family, Measurement, format_number
from benchmarks.results import Result

JOBFN_COLOUR, OTHER_COLOUR, TEXT_COLOUR, MUTED_COLOUR = "#2563eb", "#a8b0bb", "#1f2933", "#6b7280"
MET_COLOUR, MISSED_COLOUR, AXIS_COLOUR = "#15803d", "#b91c1c", "#d1d5db"
#: Ratio of the longest to the shortest bar from which the axis is logarithmic.
LOG_SCALE_RATIO = 60.0
WIDTH_INCHES, TITLE_INCHES, FOOTER_INCHES = 9.0, 0.7, 0.5
BAR_INCHES, PANEL_INCHES, LINE_INCHES = 0.36, 0.62, 0.24
MAX_REASON_CHARACTERS = 130

#: Measurements in one unit.
Panel = Sequence[Measurement]


def draw_plots(result: Result, folder: Path) -> list[Path]:
    """Write ``family-N.svg`` for each family that has measurements. Return the files."""
    mpl.rcParams.update(
        {
            "font.family": "sans-serif",
            "font.sans-serif": ["DejaVu Sans", "sans-serif"],
            "font.size": 10,
            "svg.fonttype": "none",  # text instead of glyph outlines: a tenth of the size
            "svg.hashsalt": "jobfn",  # the same ids in each run
            "text.color": TEXT_COLOUR,
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for family in result.families:
        if panels := _panels(family):
            files.append(folder / f"family-{family.number}.svg")
            _draw(family, panels, result.heading).savefig(files[-1], metadata={"Date": None})
    return files


def _panels(family: Family) -> list[Panel]:
    """Group the measurements by unit. Skip units whose only value is zero."""
    units = dict.fromkeys(each.unit for each in family.measurements)
    panels = [[each for each in family.measurements if each.unit == unit and each.rounds] for unit in units]
    return [panel for panel in panels if any(each.median for each in panel)]


def _draw(family: Family, panels: Sequence[Panel], caption: str) -> Figure:
    lines = [_comparison_line(comparison) for comparison in family.comparisons if comparison.value is not None]
    reasons = {each.subject: each.skip_reason for each in family.measurements if each.skip_reason}
    lines += [
        (f"not measured: {subject}: {reason}"[:MAX_REASON_CHARACTERS], MUTED_COLOUR)
        for subject, reason in reasons.items()
    ]
    heights = [len(panel) * BAR_INCHES + PANEL_INCHES for panel in panels]
    footer = len(lines) * LINE_INCHES + FOOTER_INCHES
    height = TITLE_INCHES + sum(heights) + footer
    figure = Figure(figsize=(WIDTH_INCHES, height))
    figure.text(0.015, 1 - 0.3 / height, f"{family.number}. {family.title}", fontsize=12.5, weight="bold", va="center")
    top = height - 0.6
    for panel, inches in zip(panels, heights, strict=True):
        axes = figure.add_axes((0.37, (top - inches + PANEL_INCHES) / height, 0.53, (inches - PANEL_INCHES) / height))
        _draw_bars(axes, panel)
        top -= inches
    for number, (text, colour) in enumerate(lines):
        y = (footer - (number + 1.3) * LINE_INCHES) / height
        figure.text(0.015, y, text, fontsize=9, color=colour)
    figure.text(0.015, 0.12 / height, caption, fontsize=7.5, color=MUTED_COLOUR)
    return figure


def _draw_bars(axes: Axes, panel: Panel) -> None:
    medians = [each.median or 0.0 for each in panel]
    positions = range(len(panel))
    colours = [JOBFN_COLOUR if _is_jobfn(each.subject) else OTHER_COLOUR for each in panel]
    axes.barh(positions, medians, color=colours, height=0.66)
    for position, each, median in zip(positions, panel, medians, strict=True):
        low, high = min(each.rounds), max(each.rounds)
        axes.plot([low, high], [position, position], color=TEXT_COLOUR, linewidth=1.1, solid_capstyle="butt")
        label_at = (max(high, median), position)
        axes.annotate(f" {format_number(median)}", label_at, va="center", fontsize=9, annotation_clip=False)
    if min(medians) > 0 and max(medians) / min(medians) > LOG_SCALE_RATIO:
        axes.set_xscale("log")
        axes.set_xlim(left=10 ** math.floor(math.log10(min(min(each.rounds) for each in panel))))
    axes.set_yticks(list(positions), [each.subject for each in panel], fontsize=9)
    axes.invert_yaxis()
    _style_axes(axes, panel[0].unit)


def _style_axes(axes: Axes, unit: str) -> None:
    axes.set_xlabel(unit, fontsize=8, color=MUTED_COLOUR, labelpad=2)
    axes.tick_params(axis="x", labelsize=7.5, colors=MUTED_COLOUR)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(AXIS_COLOUR)
    axes.margins(x=0.02)


def _is_jobfn(subject: str) -> bool:
    return "jobfn" in subject


def _comparison_line(comparison: Comparison) -> tuple[str, str]:
    between = f" ({comparison.range_text})" if len(comparison.rounds) > 1 else ""
    text = f"{comparison.name}: {comparison.value_text}{between}"
    if comparison.is_met is None:
        return text, TEXT_COLOUR
    colour = MET_COLOUR if comparison.is_met else MISSED_COLOUR
    return f"{text}, target {comparison.target}: {comparison.verdict}", colour
