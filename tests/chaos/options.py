"""``ChaosOptions``: the options of a chaos run."""

from collections.abc import Sequence
from dataclasses import dataclass

from chaos.faults import worker_names
from jobfn.worker.settings import SettlementMode


@dataclass(frozen=True)
class ChaosOptions:
    """Options of a run.

    Attributes:
        modes: Settlement mode of each worker.
        quick_share: Share of quick jobs.
        min_batched_jobs: Minimum number of jobs that workers must deliver in batches.
        kills_only_workers: Whether functions and the database are not killed, and no request is cut, delayed or
            repeated.
    """

    modes: Sequence[SettlementMode]
    seed: int
    jobs: int
    fault_seconds: float
    kill_interval_seconds: float
    drain_timeout_seconds: float
    min_batched_jobs: int
    quick_share: float = 0.7
    kills_only_workers: bool = False

    @property
    def workers(self) -> list[str]:
        """Names of the workers."""
        return worker_names(self.modes)
