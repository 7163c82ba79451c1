"""What can go wrong with a benchmark, as one line for whoever started it."""


class BenchError(Exception):
    """Nothing can be measured: says what is missing, and what to do."""


class NotMeasured(BenchError):
    """One subject cannot be measured here: its row is left out, with this reason."""
