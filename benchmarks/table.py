"""Print the result in the terminal: measurements, comparisons and targets."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.measurements import Comparison, format_number
from benchmarks.results import Result


def print_table(result: Result, console: Console) -> None:
    """Print a result."""
    console.print(result.heading, highlight=False)
    for family in result.families:
        table = Table(title=f"{family.number}. {family.title}", title_justify="left", title_style="bold")
        for name in ("subject", "median", "unit", "rounds"):
            table.add_column(name, justify="right" if name == "median" else "left")
        for each in family.measurements:
            table.add_row(each.label, format_number(each.median), each.unit, Text(each.outcome, overflow="fold"))
        console.print(table)
        for comparison in family.comparisons:
            console.print("  ", _comparison_text(comparison), highlight=False, sep="")
        for note in family.notes:
            console.print(f"  {note}", style="dim", highlight=False, markup=False)


def _comparison_text(comparison: Comparison) -> Text:
    text = Text(f"{comparison.name}: ")
    if comparison.value is None:
        return text.append(f"not measured: {comparison.skip_reason}", style="yellow")
    text.append(comparison.value_text, style="bold").append(f" ({comparison.range_text})")
    if comparison.verdict:
        text.append(f", target {comparison.target}: ")
        text.append(comparison.verdict, style="green" if comparison.is_met else "red")
    return text
