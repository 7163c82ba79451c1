"""Errors of the benchmark; their text is one line for the terminal."""


class BenchError(Exception):
    """The benchmark cannot run. The text names the problem and the fix."""


class SubjectUnavailable(BenchError):
    """One subject cannot be measured here. Its row shows the reason."""
