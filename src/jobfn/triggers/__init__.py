"""``DataJobTrigger``: database triggers, generated from blueprints, that enqueue a job for each changed row.

Blueprints become triggers in seven steps; ``plan.py`` runs them:

1. parse: ``file_formats.py`` reads a file, ``blueprint.py`` its tables, ``node.py`` and ``conditions.py`` one trigger.
2. introspect: ``catalog.py`` reads tables, types and the jobs schema into the values of ``table.py``;
   ``introspect.py`` reads the existing triggers and functions, which ``ownership.py`` recognises as jobfn's.
   ``rights.py`` chooses the role that owns the functions.
3. validate: ``validate_columns.py`` checks each trigger against the columns of its table.
4. generate: ``sql.py`` writes the statements, from ``expressions.py`` (payloads, conditions) and ``plpgsql.py``
   (function bodies). ``jobfn.sql.quoting`` quotes every name and value.
5. verify: ``validate_in_database.py`` lets PostgreSQL parse the generated comparisons and the intervals.
6. diff: ``diff.py`` compares the generated triggers with the existing ones.
7. apply: ``plan.py`` executes the difference in one transaction.

``jobfn triggers check`` compares the payload that a trigger sends (``payload_shape.py``) with the payload that a task
accepts (``compatibility.py``). See the contract, section 4.

::

    from jobfn.triggers import DataJobTrigger, TableTriggers, apply_triggers

    await apply_triggers(connection, [TableTriggers("invoices", [DataJobTrigger(task_identifier="process_invoice")])])
"""

from jobfn.triggers.blueprint import Blueprint, TableTriggers, load_blueprints
from jobfn.triggers.conditions import AllOf, AnyOf, ColumnReference, Comparison, Not
from jobfn.triggers.node import DataJobTrigger
from jobfn.triggers.plan import Plan, apply_triggers, drop_triggers, plan_triggers

__all__ = [
    "AllOf",
    "AnyOf",
    "Blueprint",
    "ColumnReference",
    "Comparison",
    "DataJobTrigger",
    "Not",
    "Plan",
    "TableTriggers",
    "apply_triggers",
    "drop_triggers",
    "load_blueprints",
    "plan_triggers",
]
