"""Description of a filter, for the entry of an action on all jobs that match it."""

from dataclasses import fields
from typing import Final
from uuid import uuid4

from jobfn.database.records import storable
from jobfn.operations.records import JobFilter
from jobfn.sql.quoting import quote_literal

#: Maximum length of a filter in an entry.
MAX_FILTER_CHARACTERS: Final = 1000


def bulk_settings(job_filter: JobFilter) -> str:
    """Return the statement that names the filter, with a new id, in the entry of each transaction of the action."""
    text = quote_literal(storable(filter_text(job_filter))[:MAX_FILTER_CHARACTERS])
    return f"set local jobfn.filter = {text}; set local jobfn.operation = '{uuid4()}'"


def filter_text(job_filter: JobFilter) -> str:
    """Describe a filter, without the values of payloads."""
    values = {field.name: getattr(job_filter, field.name) for field in fields(job_filter)}
    if job_filter.payload is not None:
        values["payload"] = f"{job_filter.payload[0]}=…"
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)
