"""Draw the samples of a soak as one SVG."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.plots import JOBFN_COLOUR, OTHER_COLOUR

#: Panels: title, and the series in it.
PANELS = {
    "resident memory, MB": ("service_megabytes", "function_megabytes"),
    "jobs table and indexes, MB": ("table_megabytes",),
    "connections": ("connections",),
    "open files": ("service_files", "function_files"),
    "claim of one job, ms": ("claim_milliseconds",),
}


def draw(samples: Mapping[str, Sequence[float]], file: Path) -> None:
    """Write the plot."""
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "jobfn"})
    figure = Figure(figsize=(9, 2 * len(PANELS)), layout="constrained")
    for axes, (title, names) in zip(figure.subplots(len(PANELS), 1, sharex=True), PANELS.items(), strict=True):
        for name, colour in zip(names, (JOBFN_COLOUR, OTHER_COLOUR), strict=False):
            axes.plot(samples["jobs"], samples[name], color=colour, label=name.partition("_")[0])
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_ylim(bottom=0)
        if len(names) > 1:
            axes.legend(frameon=False)
    axes.set_xlabel("jobs")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    figure.savefig(file, metadata={"Date": None})
