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
        kill_targets: Names of the processes to kill. None: all, and the database.
        restarts: Whether each worker and function is restarted once with SIGTERM, and none is killed.
        injects_faults: Whether requests are cut, delayed and repeated.
    """

    modes: Sequence[SettlementMode]
    seed: int
    jobs: int
    fault_seconds: float
    drain_timeout_seconds: float
    min_batched_jobs: int
    kill_interval_seconds: float = 3.0
    quick_share: float = 0.7
    kill_targets: Sequence[str] | None = None
    restarts: bool = False
    injects_faults: bool = True

    @property
    def workers(self) -> list[str]:
        """Names of the workers."""
        return worker_names(self.modes)
