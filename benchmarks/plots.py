"""A plot of each family, as PNG and SVG: bars with the rounds' spread, and what came of the targets below them."""

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from benchmarks.figures import Family, Figure, Ratio, shown, spread, suffix
from benchmarks.results import Result

OWN, OTHER, INK, FAINT = "#2563eb", "#a8b0bb", "#1f2933", "#6b7280"
#: Of a bar's length: from here on a linear axis hides the short ones.
LOG_FROM = 60.0
BAR_INCHES, PANEL_INCHES, LINE_INCHES = 0.36, 0.62, 0.24
WIDTH_INCHES = 9.0


def draw_all(result: Result, folder: Path) -> list[Path]:
    """Write ``family-N.png`` and ``family-N.svg`` of each family that has figures; returns what was written."""
    mpl.rcParams.update({"font.family": "DejaVu Sans", "font.size": 10, "svg.hashsalt": "jobfn", "text.color": INK})
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for family in result.families:
        panels = _panels(family)
        if not panels:
            continue
        canvas = _draw(family, panels, f"{result.date}, {result.where}" + (", quick form" if result.quick else ""))
        for kind in ("png", "svg"):
            path = folder / f"family-{family.number}.{kind}"
            canvas.savefig(path, dpi=140, metadata={"Date": None} if kind == "svg" else None)
            written.append(path)
    return written


def _panels(family: Family) -> list[list[Figure]]:
    """The figures that have rounds, by unit; a lone zero is no picture."""
    units = dict.fromkeys(figure.unit for figure in family.figures)
    panels = [[figure for figure in family.figures if figure.unit == unit and figure.rounds] for unit in units]
    return [panel for panel in panels if panel and any(figure.median for figure in panel)]


def _draw(family: Family, panels: Sequence[Sequence[Figure]], caption: str) -> Canvas:
    lines = [_verdict(ratio) for ratio in family.ratios if ratio.value is not None]
    missing = {figure.subject: figure.missing for figure in family.figures if figure.missing}
    lines += [(f"not measured: {subject}: {reason}"[:130], FAINT) for subject, reason in missing.items()]
    heights = [len(panel) * BAR_INCHES + PANEL_INCHES if not _is_course(panel) else 2.4 for panel in panels]
    foot = (len(lines) + 2.0) * LINE_INCHES
    height = 0.7 + sum(heights) + foot
    canvas = Canvas(figsize=(WIDTH_INCHES, height))
    canvas.text(0.015, 1 - 0.3 / height, f"{family.number}. {family.title}", fontsize=12.5, weight="bold", va="center")
    top = height - 0.6
    for panel, inches in zip(panels, heights, strict=True):
        axes = canvas.add_axes((0.37, (top - inches + PANEL_INCHES) / height, 0.53, (inches - PANEL_INCHES) / height))
        _course(axes, panel[0]) if _is_course(panel) else _bars(axes, panel)
        top -= inches
    for number, (text, colour) in enumerate(lines):
        canvas.text(0.015, (foot - (number + 1.3) * LINE_INCHES) / height, text, fontsize=9, color=colour)
    canvas.text(0.015, 0.12 / height, caption, fontsize=7.5, color=FAINT)
    return canvas


def _is_course(panel: Sequence[Figure]) -> bool:
    """Values on the way rather than rounds of the same thing."""
    return len(panel) == 1 and "on the way" in panel[0].note


def _bars(axes: Axes, panel: Sequence[Figure]) -> None:
    medians = [figure.median or 0.0 for figure in panel]
    positions = range(len(panel))
    colours = [OWN if _is_own(figure.subject) else OTHER for figure in panel]
    axes.barh(positions, medians, color=colours, height=0.66)
    for position, figure, median in zip(positions, panel, medians, strict=True):
        low, high = min(figure.rounds), max(figure.rounds)
        axes.plot([low, high], [position, position], color=INK, linewidth=1.1, solid_capstyle="butt")
        axes.annotate(
            f" {shown(median)}", (max(high, median), position), va="center", fontsize=9, annotation_clip=False
        )
    if min(medians) > 0 and max(medians) / min(medians) > LOG_FROM:
        axes.set_xscale("log")
        axes.set_xlim(left=10 ** math.floor(math.log10(min(min(figure.rounds) for figure in panel))))
    axes.set_yticks(list(positions), [figure.subject for figure in panel], fontsize=9)
    axes.invert_yaxis()
    _plain(axes, panel[0].unit)


def _course(axes: Axes, figure: Figure) -> None:
    """What a value did on the way, at each tenth of it."""
    axes.plot([10 * (number + 1) for number in range(len(figure.rounds))], figure.rounds, color=OWN, marker="o", ms=4)
    axes.set_ylim(0, 1.1 * max(figure.rounds))
    axes.set_title(figure.subject, fontsize=9, loc="left")
    axes.set_ylabel(figure.unit, fontsize=8, color=FAINT)
    axes.tick_params(axis="y", labelsize=7.5, labelcolor=FAINT)
    _plain(axes, "% of the way")


def _plain(axes: Axes, unit: str) -> None:
    axes.set_xlabel(unit, fontsize=8, color=FAINT, labelpad=2)
    axes.tick_params(axis="x", labelsize=7.5, colors=FAINT)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#d1d5db")
    axes.margins(x=0.02)


def _is_own(subject: str) -> bool:
    return "jobfn" in subject or "waiting" in subject


def _verdict(ratio: Ratio) -> tuple[str, str]:
    between = f" ({spread(ratio.rounds, ratio.unit)})" if len(ratio.rounds) > 1 else ""
    text = f"{ratio.name}: {shown(ratio.value, ratio.unit)}{suffix(ratio.unit)}{between}"
    if ratio.met is None:
        return text, INK
    return f"{text}, target {ratio.target}: {'met' if ratio.met else 'missed'}", "#15803d" if ratio.met else "#b91c1c"
