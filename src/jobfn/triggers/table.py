"""What a trigger needs to know of its table, and of the jobs schema that it enqueues into.

Pure. ``catalog.py`` reads these from the database; ``resolve.py``, ``sql.py`` and ``sent.py`` work on them.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from jobfn.triggers.quoting import quote_identifier

#: Operators of ``conditions`` under the names that PostgreSQL's catalog has for them.
CATALOG_OPERATORS: Final = {"!=": "<>", "LIKE": "~~", "NOT LIKE": "!~~"}


class TypeKind(StrEnum):
    """How a type is made."""

    BASE = "base"
    ENUM = "enum"
    DOMAIN = "domain"
    ARRAY = "array"
    COMPOSITE = "composite"
    RANGE = "range"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class PgType:
    """A column's type.

    Attributes:
        name: As SQL writes it, quoted where it must be, its schema named unless it is PostgreSQL's own.
        kind: How it is made.
        catalog_name: Its plain name where it is PostgreSQL's own, such as ``int4``; None for any other.
        comparable: Whether ``=`` on two of its values always has an answer; json, for one, has no ``=``.
        operators: Where its own operators live, by name, each schema quoted; empty for PostgreSQL's own types,
            whose operators every search path finds.
        sends_json: Whether it has a cast to json of its own, which decides what it looks like there.
        labels: An enum's values.
        inner: A domain's base type, or an array's element type.
        not_null: Whether a domain forbids NULL.
        fields: A composite type's attributes.
    """

    name: str
    kind: TypeKind = TypeKind.BASE
    catalog_name: str | None = None
    comparable: bool = True
    operators: Mapping[str, str] = field(default_factory=dict)
    sends_json: bool = False
    labels: tuple[str, ...] = ()
    inner: "PgType | None" = None
    not_null: bool = False
    fields: "tuple[Column, ...]" = ()

    @property
    def plain(self) -> "PgType":
        """The type below all domains."""
        return self.inner.plain if self.kind is TypeKind.DOMAIN and self.inner is not None else self

    @property
    def has_equality(self) -> bool:
        """Whether ``=`` works on its values, and on what they are made of."""
        plain = self.plain
        if plain.kind is TypeKind.ARRAY:
            return plain.inner is not None and plain.inner.has_equality
        if plain.kind is TypeKind.COMPOSITE:
            return all(attribute.type.has_equality for attribute in plain.fields)
        return plain.comparable

    def schema_of_operator(self, operator: str) -> str | None:
        """Where an operator of ``conditions`` lives, quoted; None where every search path finds it."""
        return self.plain.operators.get(CATALOG_OPERATORS.get(operator, operator))


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        name: Its name.
        type: Its type.
        nullable: Whether it can hold NULL.
        whole_numbers: Whether a numeric has no digits after the point by its declaration.
        is_virtual: Whether it is a virtual generated column, whose value a trigger never sees.
    """

    name: str
    type: PgType
    nullable: bool = True
    whole_numbers: bool = False
    is_virtual: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        schema: Its schema.
        name: Its name.
        columns: In their order.
        primary_key: The names of its columns; empty without one.
        is_plain_table: Whether it is an ordinary table without parents, children and partitions: only then does a
            statement-level trigger see every change of its rows.
    """

    schema: str
    name: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()
    is_plain_table: bool = True

    @property
    def sql(self) -> str:
        """Its name as SQL reads it."""
        return f"{quote_identifier(self.schema)}.{quote_identifier(self.name)}"

    @property
    def label(self) -> str:
        """Its name as a message has it."""
        return label_of(self.schema, self.name)

    def column(self, name: str) -> Column | None:
        """The column of that name."""
        return next((column for column in self.columns if column.name == name), None)

    @property
    def id_column(self) -> Column | None:
        """What ``row_id`` sends: the primary key's one column, or its ``id`` where it has several."""
        if len(self.primary_key) == 1:
            return self.column(self.primary_key[0])
        return self.column("id") if "id" in self.primary_key else None


class AddJob(StrEnum):
    """How jobs get into a jobs schema."""

    #: jobfn's own schema: many rows can be inserted at once.
    TABLE = "table"
    #: ``add_job(identifier, ...)``: the schema finds out the tenant.
    IDENTIFIER = "identifier"
    #: Only ``add_job(db_id, ...)``: the trigger says the tenant.
    TENANT = "tenant"


@dataclass(frozen=True, slots=True)
class JobsSchema:
    """The schema that triggers enqueue into, and in which their functions live.

    Attributes:
        name: Its name.
        add_job: How jobs get in.
        needs_tenant: Whether ``jobs.database_id`` forbids NULL.
        may_add: Whether the role that applies triggers may add jobs. They enqueue with its rights.
    """

    name: str
    add_job: AddJob = AddJob.TABLE
    needs_tenant: bool = False
    may_add: bool = True

    @property
    def sql(self) -> str:
        """Its name as SQL reads it."""
        return quote_identifier(self.name)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a name that is not there: `` (nearest: amount)``; empty where nothing is near."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (nearest: {shown(found[0])})" if found else ""


def label_of(schema: str, name: str) -> str:
    """A table's name as a message has it, ``public.invoices``."""
    return f"{shown(schema)}.{shown(name)}"


def shown(text: str) -> str:
    """Text from a blueprint or a database as a terminal may show it: without its control characters."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
