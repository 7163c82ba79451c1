"""A clock that tests set by hand."""


class ManualClock:
    """Monotonic clock in seconds.

    Attributes:
        seconds: The current time.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self.seconds += seconds
