"""``JobStore`` of a worker on a database with the platform's flow graphs.

The platform's engine adds a job for each node of a running graph. Its payload is ``{"execution_id", "node_name",
"node_type", "inputs", "props"}``, and the function gets the inputs. The result goes to the engine's ``complete_node``,
which adds the jobs of the next nodes; a failure goes to ``fail_node``, which ends the execution. Both run in the
transaction that settles the job. ``graph_functions.py`` loads this module if the database has these functions.
"""

import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg

from jobfn.database.connection import is_transient
from jobfn.database.records import GraphNode, Job, Outcome, SettledJob, Settlement, sanitize_text
from jobfn.database.store import JobStore, OnSettled
from jobfn.telemetry import logs

#: Code of every failure, as the platform's own worker passes it to ``fail_node``.
ERROR_CODE: Final = "NODE_EXECUTION_FAILED"


class GraphFunctions(NamedTuple):
    """The functions that end a node.

    Attributes:
        complete_node: Statement: $1 execution, $2 node, $3 its output.
        fail_node: Statement: $1 execution, $2 node, $3 code and $4 text of the error.
    """

    complete_node: str
    fail_node: str


class GraphStore:
    """A ``JobStore`` in front of another one. Jobs that are not nodes pass through.

    Args:
        store: The store of the schema.
        pool: Connections, for the transactions of nodes.
        functions: The engine's functions.
        on_settled: Called with the jobs of nodes that were settled.
    """

    def __init__(
        self, store: JobStore, pool: "asyncpg.Pool[Any]", functions: GraphFunctions, *, on_settled: OnSettled
    ) -> None:
        self._store = store
        self._pool = pool
        self._functions = functions
        self._on_settled = on_settled

    async def claim(self, worker_id: str, **options: Any) -> list[Job]:
        """See ``JobStore.claim``. The payload of a node's job is the node's inputs."""
        return [with_node(job) for job in await self._store.claim(worker_id, **options)]

    async def settle(self, settlements: Sequence[Settlement]) -> set[int]:
        """See ``JobStore.settle``. Each node has a transaction."""
        nodes = [(each, each.node) for each in settlements if each.node is not None and not each.released]
        if not nodes:
            return await self._store.settle(settlements)
        others = [each for each in settlements if each.node is None or each.released]
        changed = await self._store.settle(others) if others else set()
        for settlement, node in nodes:
            changed |= await self._settle_node(settlement, node)
        return changed

    def __getattr__(self, name: str) -> Any:
        """Forward all other methods."""
        return getattr(self._store, name)

    async def _settle_node(self, settlement: Settlement, node: GraphNode) -> set[int]:
        """Settle a job and its node together."""
        arguments: list[object] = [UUID(node.execution_id), node.name]
        if settlement.error is None:
            statement, arguments = self._functions.complete_node, [*arguments, settlement.output or "{}"]
        elif settlement.outcome is Outcome.SNOOZED:  # the node still runs, unless the snooze is one too many
            statement = self._functions.fail_node
            arguments += [ERROR_CODE, sanitize_text(settlement.error)]
        elif settlement.delay_seconds is not None and not settlement.permanent and not node.is_last_attempt:
            return await self._store.settle([settlement])  # the function asked for a retry: the node still runs
        else:
            settlement = settlement._replace(permanent=True)  # the failure ends the execution
            statement = self._functions.fail_node
            arguments += [ERROR_CODE, sanitize_text(settlement.error or "")]
        settled: list[SettledJob] = []
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                changed = await self._store.joined(connection, settled.extend).settle([settlement])
                if changed and settled[0].settlement.outcome is not Outcome.SNOOZED:
                    await connection.execute(statement, *arguments)
        except asyncpg.PostgresError as refusal:
            if is_transient(refusal):
                raise
            return await self._settle_refused(settlement, node, refusal)
        self._on_settled(settled)
        return changed

    async def _settle_refused(
        self, settlement: Settlement, node: GraphNode, refusal: asyncpg.PostgresError
    ) -> set[int]:
        """Settle a job whose outcome the engine refused, for example because the execution has ended."""
        logs.get_logger("jobfn.worker").warning(
            "flow graph refused the outcome of a node", job=settlement.job_id, node=node.name, reason=str(refusal)
        )
        if settlement.error is not None:
            return await self._store.settle([settlement])
        error = f"the flow graph refused the output of node {node.name}: {refusal}"
        return await self._settle_node(settlement._replace(error=error, permanent=True, result=None), node)


def with_node(job: Job) -> Job:
    """Return the job of a node with the node and its inputs as payload; any other job unchanged."""
    if '"execution_id"' not in job.payload:
        return job
    payload = json.loads(job.payload)
    if not isinstance(payload, dict) or "inputs" not in payload:
        return job
    execution_id, name, node_type = (payload.get(key) for key in ("execution_id", "node_name", "node_type"))
    if not (isinstance(execution_id, str) and isinstance(name, str) and isinstance(node_type, str)):
        return job
    try:
        UUID(execution_id)
    except ValueError:
        return job
    node = GraphNode(execution_id, name, is_last_attempt=job.attempt >= job.max_attempts)
    return job._replace(payload=json.dumps(payload["inputs"]), node=node)
