"""Find the functions of the platform's flow graphs, if the database has them."""

from typing import Any, cast

import asyncpg

from jobfn.database.statements import query
from jobfn.database.store import JobStore, OnSettled
from jobfn.sql.quoting import quote_identifier
from jobfn.telemetry import logs


async def open_graph_store(
    store: JobStore, pool: "asyncpg.Pool[Any]", schema: str, *, on_settled: OnSettled
) -> JobStore:
    """Return a store that also ends the nodes of flow graphs, or the given one if the database has no such graphs."""
    row = await pool.fetchrow(query("graph_functions", schema))
    if row is None:
        return store
    log = logs.get_logger("jobfn.worker")
    if not row["is_allowed"]:
        log.warning(
            "nodes of flow graphs are not completed: grant this role EXECUTE on the functions",
            schema=row["schema"],
            functions=[row["complete_node"], row["fail_node"]],
        )
        return store
    from jobfn.database.graph_store import GraphFunctions, GraphStore  # noqa: PLC0415  - only for such databases

    log.info("nodes of flow graphs are completed", schema=row["schema"], function=row["complete_node"])
    names = {name: quote_identifier(row[name]) for name in ("schema", "complete_node", "fail_node")}
    functions = GraphFunctions(
        f"select {names['schema']}.{names['complete_node']}($1, $2, $3)",
        f"select {names['schema']}.{names['fail_node']}($1, $2, $3, $4)",
    )
    return cast("JobStore", GraphStore(store, pool, functions, on_settled=on_settled))  # by __getattr__
