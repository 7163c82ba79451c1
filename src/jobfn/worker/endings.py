"""A job's end is written down: its line in the log, and its number.

The stores call it when a settlement is committed, whoever brought it: a function's report, or its response.
"""

from jobfn import logs
from jobfn.database.model import Ending
from jobfn.worker.measures import WorkerMeasures


class Endings:
    """An ``OnEnding``.

    Args:
        measures: What is counted.
    """

    def __init__(self, measures: WorkerMeasures) -> None:
        self._measures = measures
        self._log = logs.get_logger("jobfn.worker")

    def __call__(self, ending: Ending) -> None:
        """Write it down. A job that was given back has not ended; why it was, its worker says."""
        self._measures.ended(ending)
        settlement = ending.settlement
        if settlement.given_back:
            return
        event = "job failed" if settlement.error is not None else "job done"
        if not settlement.reported:
            event += ", without a report"
        self._log.info(event, **ending.ids(), error=settlement.error)
