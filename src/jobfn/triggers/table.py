"""Tables, columns and types, and the jobs schema, as values.

Pure. ``catalog.py`` reads them from the database; the other steps use them.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from jobfn.sql.quoting import quote_identifier

#: Names in PostgreSQL's catalog of operators that ``conditions`` spells differently.
CATALOG_OPERATORS: Final = {"!=": "<>", "LIKE": "~~", "NOT LIKE": "!~~"}


class TypeKind(StrEnum):
    """Kind of a PostgreSQL type."""

    ENUM = "enum"
    DOMAIN = "domain"
    ARRAY = "array"
    COMPOSITE = "composite"
    RANGE = "range"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class PgType:
    """The type of a column.

    Attributes:
        name: Name in SQL: quoted if necessary, qualified unless the type is built in.
        catalog_name: Name of a built-in type, for example ``int4``; None for other types.
        comparable: Whether the type has an ``=`` operator; json, for example, has none.
        operators: Quoted schema of each operator that is not built in, by operator name.
        has_json_cast: Whether the type has a custom cast to json, which determines its JSON representation.
        labels: Values of an enum.
        inner: Base type of a domain, or element type of an array.
        not_null: Whether a domain forbids NULL.
        fields: Attributes of a composite type.
    """

    name: str
    kind: TypeKind = TypeKind.OTHER
    catalog_name: str | None = None
    comparable: bool = True
    operators: Mapping[str, str] = field(default_factory=dict)
    has_json_cast: bool = False
    labels: tuple[str, ...] = ()
    inner: "PgType | None" = None
    not_null: bool = False
    fields: "tuple[Column, ...]" = ()

    @property
    def base_type(self) -> "PgType":
        """The type below all domains; the type itself if it is not a domain."""
        return self.inner.base_type if self.kind is TypeKind.DOMAIN and self.inner is not None else self

    @property
    def has_equality(self) -> bool:
        """Whether the type, and each type it consists of, has an ``=`` operator."""
        base = self.base_type
        if base.kind is TypeKind.ARRAY:
            return base.inner is not None and base.inner.has_equality
        if base.kind is TypeKind.COMPOSITE:
            return all(attribute.type.has_equality for attribute in base.fields)
        return base.comparable

    @property
    def input_runs_code(self) -> bool:
        """Whether reading a value from text can run functions of the type's owner: checks of domains in its parts.

        A domain itself is checked when the value is used, not when a statement with it is parsed.
        """
        base = self.base_type
        if base.kind is TypeKind.ARRAY and base.inner is not None:
            return base.inner.kind is TypeKind.DOMAIN or base.inner.input_runs_code
        return base.kind in {TypeKind.COMPOSITE, TypeKind.RANGE} and base.catalog_name is None

    def operator_schema(self, operator: str) -> str | None:
        """Return the quoted schema of an operator; None if it is built in."""
        return self.base_type.operators.get(CATALOG_OPERATORS.get(operator, operator))


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table, or an attribute of a composite type.

    Attributes:
        is_integral: Whether a numeric column is declared with scale 0.
        is_virtual: Whether this is a virtual generated column, whose value triggers cannot read.
    """

    name: str
    type: PgType
    nullable: bool = True
    is_integral: bool = False
    is_virtual: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        primary_key: Names of the primary key's columns; empty if there is no primary key.
        is_plain_table: Whether the table is neither a partition nor part of an inheritance tree. Only then do
            statement-level triggers see every change of its rows.
    """

    schema: str
    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()
    is_plain_table: bool = True

    @property
    def sql(self) -> str:
        """Quoted, qualified name."""
        return f"{quote_identifier(self.schema)}.{quote_identifier(self.name)}"

    @property
    def label(self) -> str:
        """Qualified name for messages."""
        return qualified_label(self.schema, self.name)

    def column(self, name: str) -> Column | None:
        """Return the column with this name, or None."""
        return next((column for column in self.columns if column.name == name), None)

    @property
    def id_column(self) -> Column | None:
        """The column that ``row_id`` sends: the primary key, or the ``id`` column of a composite key."""
        if len(self.primary_key) == 1:
            return self.column(self.primary_key[0])
        return self.column("id") if "id" in self.primary_key else None


@dataclass(frozen=True, slots=True)
class EntitySource:
    """Where the entity id of a job comes from: a column, or a column of the table that a foreign key refers to.

    Attributes:
        column: Column of the trigger's table.
        lookup_table: Quoted, qualified name of the related table; None without a lookup.
        lookup_key: Column of the related table that equals ``column``.
        lookup_field: Column of the related table with the entity id.
    """

    column: str
    lookup_table: str | None = None
    lookup_key: str = ""
    lookup_field: str = ""


class EnqueueMethod(StrEnum):
    """How a trigger enqueues into a jobs schema."""

    #: jobfn's own schema: insert many rows into the jobs table at once.
    INSERT = "insert"
    #: jobfn's own schema, for a role that may not insert: call ``add_jobs`` with many payloads at once.
    ADD_JOBS = "add_jobs"
    #: Call ``add_job(identifier, ...)``, which determines the tenant.
    ADD_JOB = "add_job"
    #: Call ``add_job(db_id, ...)`` with the tenant.
    ADD_JOB_WITH_TENANT = "add_job_with_tenant"


@dataclass(frozen=True, slots=True)
class JobsSchema:
    """The schema that triggers enqueue into; it also contains their functions.

    Attributes:
        requires_tenant: Whether ``jobs.database_id`` forbids NULL.
        accepts_entity: Whether ``add_job`` has the argument ``entity_id``.
        accepts_signals: Whether it has jobfn's function ``signal_jobs``.
        accepts_unique: Whether it has jobfn's functions for unique jobs and for jobs with a maximum delay.
        accepts_expiry: Whether it has the expiry of jobs.
        has_task_settings: Whether it has settings of tasks, which triggers must read that insert jobs themselves.
        function_owner: Role to own the triggers' functions, which have its rights; None for the current role.
    """

    name: str
    enqueue_method: EnqueueMethod = EnqueueMethod.INSERT
    requires_tenant: bool = False
    accepts_entity: bool = True
    accepts_signals: bool = True
    accepts_unique: bool = True
    accepts_expiry: bool = True
    has_task_settings: bool = True
    function_owner: str | None = None

    @property
    def sql(self) -> str:
        """Quoted name."""
        return quote_identifier(self.name)


def suggest(name: str, known: Iterable[str]) -> str:
    """Return a hint for an unknown name, `` (nearest: amount)``; empty if no known name is similar."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (nearest: {printable(matches[0])})" if matches else ""


def qualified_label(schema: str, name: str) -> str:
    """Return a qualified name for messages, for example ``public.invoices``."""
    return f"{printable(schema)}.{printable(name)}"


def printable(text: str) -> str:
    """Escape the control characters of text from a blueprint or a database, for terminals."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
