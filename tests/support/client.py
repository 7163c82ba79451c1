"""What tests of jobfn's client share: a user's own code, with a connection of whatever kind."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


async def settled(found: Any) -> Any:
    """What a call gives: awaited where its driver is async."""
    return await found if inspect.isawaitable(found) else found


@dataclass(frozen=True)
class User:
    """Somebody's own code, with a connection in a transaction of its own.

    Attributes:
        connection: What is given to jobfn.
        commit: Ends the transaction.
        rollback: Ends it the other way.
    """

    connection: Any
    commit: Callable[[], Any]
    rollback: Callable[[], Any]
