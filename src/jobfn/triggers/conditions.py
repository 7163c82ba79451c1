"""``conditions`` of a trigger: comparisons, and their combinations with AND, OR and NOT (contract, section 4).

Pure. ``node.py`` holds them; ``expressions.py`` turns them into SQL.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from jobfn.triggers.quoting import name_problem, text_problem

RowName = Literal["NEW", "OLD"]
Operator = Literal["=", "!=", ">", "<", ">=", "<=", "LIKE", "NOT LIKE", "IS NULL", "IS NOT NULL", "IS DISTINCT FROM"]

WITHOUT_VALUE = frozenset({"IS NULL", "IS NOT NULL"})
PATTERNS = frozenset({"LIKE", "NOT LIKE"})
#: What pydantic puts into an error's place beside names and numbers.
CONDITION_KINDS = frozenset({"comparison", "AND", "OR", "NOT"})


def _storable(text: str) -> str:
    problem = text_problem(text)
    if problem is not None:
        raise ValueError(problem)
    return text


def _nameable(name: str) -> str:
    problem = name_problem(name)
    if problem is not None:
        raise ValueError(problem)
    return name


#: Refuses text that PostgreSQL cannot hold.
Storable = AfterValidator(_storable)
StorableText = Annotated[str, Storable]
#: A name that PostgreSQL can have.
Name = Annotated[str, AfterValidator(_nameable)]


def _as_text(value: Any) -> Any:
    """A value as PostgreSQL reads it from text: a number or a truth value in JSON's spelling."""
    if value is True or value is False:
        return "true" if value else "false"
    return str(value) if isinstance(value, (int, float)) else value


#: A value to compare with. It is cast to the column's type, so a number may also be written as text.
ComparisonValue = Annotated[StorableText, BeforeValidator(_as_text)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ColumnReference(_Strict):
    """Another column to compare with.

    Attributes:
        field: The column.
        row: Of which row. Default: NEW, and OLD on DELETE.
    """

    field: Name
    row: RowName | None = None


class Comparison(_Strict):
    """One column against a value, another column, or NULL.

    Attributes:
        field: The column.
        op: How.
        value: What it is compared with, cast to the column's type.
        row: Of which row ``field`` is. Default: NEW, and OLD on DELETE.
        ref: A column instead of a value. IS DISTINCT FROM with neither compares the row before with the row after.
    """

    field: Name
    op: Operator
    value: ComparisonValue | None = None
    row: RowName | None = None
    ref: ColumnReference | None = None

    @property
    def compares_rows(self) -> bool:
        """Whether it asks if the column changed: IS DISTINCT FROM, and nothing to compare with."""
        return self.op == "IS DISTINCT FROM" and self.ref is None and "value" not in self.model_fields_set

    @property
    def is_not_null(self) -> bool:
        """Whether it asks for anything but NULL: IS DISTINCT FROM a value that is null."""
        return self.op == "IS DISTINCT FROM" and self.value is None and "value" in self.model_fields_set

    @model_validator(mode="after")
    def _has_what_it_compares(self) -> Self:
        has_value = "value" in self.model_fields_set
        if self.ref is not None and has_value:
            raise ValueError("value and ref: one of them, not both")
        if self.op in WITHOUT_VALUE:
            if self.ref is not None or self.value is not None:
                raise ValueError(f"{self.op} compares with nothing: leave value and ref out")
        elif self.op != "IS DISTINCT FROM" and self.ref is None and self.value is None:
            wanted = "IS NULL or IS NOT NULL compares with null" if has_value else "give a value or a ref"
            raise ValueError(f"{self.op} needs something to compare with: {wanted}")
        if self.op in PATTERNS and self.value is not None and _ends_in_escape(self.value):
            # It would be found out row by row, and every time fail somebody's write.
            raise ValueError(f"the pattern {self.value!r} ends in its escape character: write two backslashes for one")
        return self


class AllOf(_Strict):
    """``{"AND": [...]}``: every one of them."""

    conditions: "tuple[Condition, ...]" = Field(alias="AND", min_length=1)


class AnyOf(_Strict):
    """``{"OR": [...]}``: at least one of them."""

    conditions: "tuple[Condition, ...]" = Field(alias="OR", min_length=1)


class Not(_Strict):
    """``{"NOT": {...}}``: not this one. As in SQL: what is NULL stays NULL, and does not fire."""

    condition: "Condition" = Field(alias="NOT")


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return next((key for key in ("AND", "OR", "NOT") if key in value), "comparison")
    kinds: dict[type, str] = {AllOf: "AND", AnyOf: "OR", Not: "NOT"}
    return kinds.get(type(value), "comparison")


Condition = Annotated[
    Annotated[Comparison, Tag("comparison")]
    | Annotated[AllOf, Tag("AND")]
    | Annotated[AnyOf, Tag("OR")]
    | Annotated[Not, Tag("NOT")],
    Discriminator(_kind),
]

for _model in (AllOf, AnyOf, Not):
    _model.model_rebuild()


def comparisons(condition: Comparison | AllOf | AnyOf | Not) -> Iterator[Comparison]:
    """Every comparison in a condition, from left to right."""
    match condition:
        case Comparison():
            yield condition
        case AllOf() | AnyOf():
            for part in condition.conditions:
                yield from comparisons(part)
        case Not():
            yield from comparisons(condition.condition)


def _ends_in_escape(pattern: str) -> bool:
    return (len(pattern) - len(pattern.rstrip("\\"))) % 2 == 1
