"""Pauses of tasks, queues, tenants or everything, and the weights of tenants."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from jobfn.database.records import sanitize_text
from jobfn.errors import ConfigurationError
from jobfn.operations.statements import Database

_NO_PAUSES = "has no pauses and no weights"


class PauseKind(StrEnum):
    """The kind of what a pause stops."""

    TASK = "task"
    QUEUE = "queue"
    TENANT = "tenant"
    EVERYTHING = "everything"


@dataclass(frozen=True, slots=True)
class PauseTarget:
    """A task, a queue, a tenant, or everything.

    Attributes:
        name: The task identifier, the queue or the tenant's id; empty for everything.
    """

    kind: PauseKind
    name: str = ""

    def __post_init__(self) -> None:
        if self.kind is PauseKind.EVERYTHING and self.name:
            raise ConfigurationError(f"a pause of everything has no name, but {self.name!r} is given")
        if self.kind is not PauseKind.EVERYTHING and not self.name:
            raise ConfigurationError(f"the name of the {self.kind} is empty: give one")
        if self.kind is PauseKind.TENANT:
            check_tenant(self.name)

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".strip()


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause that has not ended.

    Attributes:
        until: When it ends by itself; None: when it is resumed.
    """

    target: PauseTarget
    since: datetime
    until: datetime | None
    paused_by: str
    reason: str | None

    def __str__(self) -> str:
        until = "" if self.until is None else f" until {self.until:%Y-%m-%d %H:%M} UTC"
        reason = "" if self.reason is None else f" ({self.reason})"
        return f"{self.target}, since {self.since:%Y-%m-%d %H:%M} UTC{until} by {self.paused_by}{reason}"


@dataclass(frozen=True, slots=True)
class TenantWeight:
    """How many jobs a tenant starts for each one of a tenant without a weight."""

    tenant: str
    weight: int


async def list_pauses(database: Database) -> tuple[Pause, ...]:
    """See ``Operations.pauses``."""
    if database.capabilities.is_platform:
        return ()
    rows = await database.fetch("pauses")
    return tuple(
        Pause(
            PauseTarget(PauseKind(row["kind"]), row["name"]),
            row["since"],
            row["until"],
            row["paused_by"],
            row["reason"],
        )
        for row in rows
    )


async def pause(
    database: Database,
    target: PauseTarget,
    *,
    seconds: float | None,
    until: datetime | None,
    reason: str | None,
    paused_by: str | None,
) -> None:
    """See ``Operations.pause``."""
    database.require_native(_NO_PAUSES)
    texts = [None if text is None else sanitize_text(text) for text in (reason, paused_by)]
    await database.fetch("pause", *_arguments(target), seconds, until, *texts)


async def resume(database: Database, target: PauseTarget) -> bool:
    """See ``Operations.resume``."""
    database.require_native(_NO_PAUSES)
    return bool((await database.fetch("resume", *_arguments(target)))[0]["resume"])


async def list_tenant_weights(database: Database) -> tuple[TenantWeight, ...]:
    """See ``Operations.tenant_weights``."""
    database.require_native(_NO_PAUSES)
    rows = await database.fetch("tenant_weights")
    return tuple(TenantWeight(row["tenant"], row["weight"]) for row in rows)


async def set_tenant_weight(database: Database, tenant: str, weight: int) -> None:
    """See ``Operations.set_tenant_weight``."""
    database.require_native(_NO_PAUSES)
    check_tenant(tenant)
    await database.fetch("set_tenant_weight", tenant, weight)


def check_tenant(text: str) -> None:
    """Check that a text is a tenant's id.

    Raises:
        ConfigurationError: It is not a UUID.
    """
    try:
        UUID(text)
    except ValueError:
        raise ConfigurationError(f"tenant {text!r} is not a UUID: give the database_id of its jobs") from None


def _arguments(target: PauseTarget) -> tuple[object, ...]:
    kinds = (PauseKind.TASK, PauseKind.QUEUE, PauseKind.TENANT)
    return (*(target.name if target.kind is kind else None for kind in kinds), target.kind is PauseKind.EVERYTHING)
