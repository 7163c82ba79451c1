"""Enqueue a job of a tenant on every kind of schema.

``add_job`` of jobfn's schema, and of the platform's older ones, has a form with the tenant. The platform's newest one
takes the tenant from a setting of the session, which is set for this one statement. Which form a schema has is looked
up once for each connection.
"""

from typing import Any
from weakref import WeakKeyDictionary

from jobfn.client.drivers import Driver
from jobfn.client.statements import Statement

#: Whether ``add_job`` has a form with the tenant, by connection and schema.
_has_tenant_form: "WeakKeyDictionary[Any, dict[str, bool]]" = WeakKeyDictionary()


def fetch_for_tenant(driver: Driver, connection: Any, by_argument: Statement, by_setting: Statement) -> Any:
    """Run the statement that the schema supports, and return its value; a coroutine of it if the driver is async.

    Args:
        driver: The connection's driver.
        connection: The connection.
        by_argument: Adds the job by the form with the tenant.
        by_setting: Adds the job with the tenant as a setting of the session.
    """
    schema = by_argument.schema
    known = _known_forms(connection)
    has_form = known.get(schema)
    if has_form is not None:
        return driver.fetch_value(connection, by_argument if has_form else by_setting)
    lookup = Statement("has_tenant_form", schema, (schema,))
    if driver.is_async:
        return _look_up_and_fetch(driver, connection, lookup, by_argument, by_setting)
    known[schema] = driver.fetch_value(connection, lookup)
    return driver.fetch_value(connection, by_argument if known[schema] else by_setting)


async def _look_up_and_fetch(
    driver: Driver, connection: Any, lookup: Statement, by_argument: Statement, by_setting: Statement
) -> Any:
    known = _known_forms(connection)
    known[lookup.schema] = await driver.fetch_value(connection, lookup)
    return await driver.fetch_value(connection, by_argument if known[lookup.schema] else by_setting)


def _known_forms(connection: Any) -> dict[str, bool]:
    """Return what is known about this connection's schemas, to be updated."""
    try:
        return _has_tenant_form.setdefault(connection, {})
    except TypeError:  # a connection of asyncpg's pool cannot be referenced weakly, but the one inside can
        inner = getattr(connection, "_con", None)
        return {} if inner is None else _has_tenant_form.setdefault(inner, {})
