"""``RunData``: what a chaos run recorded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chaos.delivery_log import Delivery, DeliveryLog
from chaos.options import ChaosOptions
from chaos.plan import PlannedJob

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Rows:
    """Rows of the database at the end."""

    effects: Sequence[Row]
    planned: Sequence[Row]
    jobs: Sequence[Row]
    queue_locks: Sequence[Row]
    history: Sequence[Row]
    results: Sequence[Row]


@dataclass(frozen=True)
class RunData:
    """Everything that a run recorded."""

    options: ChaosOptions
    plan: Sequence[PlannedJob]
    log: DeliveryLog
    rows: Rows

    @property
    def last_versions(self) -> dict[int, PlannedJob]:
        """The last version of each job, which must have its effect."""
        return {job.number: job for job in sorted(self.plan, key=lambda job: job.version)}

    def delivery_of(self, effect: Row) -> Delivery:
        """Return the delivery of an effect."""
        sequence: int = effect["delivery"]
        return self.log.deliveries[sequence - 1]
