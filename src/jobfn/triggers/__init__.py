"""``DataJobTrigger``: a table's changes enqueue jobs, by triggers made from a blueprint (contract, section 4).

``blueprint.py`` (a file) -> ``node.py`` (what it says) -> ``resolve.py`` (does it fit the table?) -> ``sql.py`` (the
statements) -> ``plan.py`` (compare with the database, apply). ``check.py`` compares what is sent with what a task
takes.

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
