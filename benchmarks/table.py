"""The result in the terminal: every figure, every ratio, and whether its target is met."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.figures import Ratio, shown, spread, suffix
from benchmarks.results import Result


def print_table(result: Result, console: Console) -> None:
    """Print it."""
    console.print(f"{result.date}; {result.where}", highlight=False)
    for family in result.families:
        table = Table(title=f"{family.number}. {family.title}", title_justify="left", title_style="bold")
        for name in ("subject", "median", "unit", "rounds"):
            table.add_column(name, justify="right" if name == "median" else "left")
        for figure in family.figures:
            said = f"not measured: {figure.missing}" if figure.missing else spread(figure.rounds)
            table.add_row(figure.label, shown(figure.median), figure.unit, Text(said, overflow="fold"))
        console.print(table)
        for ratio in family.ratios:
            console.print("  ", _verdict(ratio), highlight=False, sep="")
        for note in family.notes:
            console.print(f"  {note}", style="dim", highlight=False, markup=False)


def _verdict(ratio: Ratio) -> Text:
    text = Text(f"{ratio.name}: ")
    if ratio.value is None:
        return text.append(f"not measured: {ratio.missing}", style="yellow")
    text.append(f"{shown(ratio.value, ratio.unit)}{suffix(ratio.unit)}", style="bold")
    text.append(f" ({spread(ratio.rounds, ratio.unit)})")
    if ratio.met is not None:
        text.append(f", target {ratio.target}: ")
        text.append("met" if ratio.met else "missed", style="green" if ratio.met else "red")
    return text
