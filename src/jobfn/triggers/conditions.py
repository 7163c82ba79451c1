"""Model the ``conditions`` of a trigger: comparisons, combined with AND, OR and NOT (contract, section 4).

Pure. ``node.py`` contains them; ``expressions.py`` turns them into SQL.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from jobfn.sql.quoting import name_problem, text_problem

RowName = Literal["NEW", "OLD"]
Operator = Literal["=", "!=", ">", "<", ">=", "<=", "LIKE", "NOT LIKE", "IS NULL", "IS NOT NULL", "IS DISTINCT FROM"]

UNARY_OPERATORS = frozenset({"IS NULL", "IS NOT NULL"})
PATTERN_OPERATORS = frozenset({"LIKE", "NOT LIKE"})
#: Union tags that pydantic adds to an error's location.
CONDITION_TAGS = frozenset({"comparison", "AND", "OR", "NOT"})


def _check_text(text: str) -> str:
    problem = text_problem(text)
    if problem is not None:
        raise ValueError(problem)
    return text


def _check_name(name: str) -> str:
    problem = name_problem(name)
    if problem is not None:
        raise ValueError(problem)
    return name


#: Rejects text that PostgreSQL cannot store.
PgTextValidator = AfterValidator(_check_text)
PgText = Annotated[str, PgTextValidator]
#: A valid PostgreSQL name.
PgName = Annotated[str, AfterValidator(_check_name)]


def _as_text(value: Any) -> Any:
    """Convert numbers and booleans to text, spelled as in JSON."""
    if value is True or value is False:
        return "true" if value else "false"
    return str(value) if isinstance(value, (int, float)) else value


#: Value to compare with, as text. SQL casts it to the column's type.
ComparisonValue = Annotated[PgText, BeforeValidator(_as_text)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ColumnReference(_Strict):
    """A column to compare with.

    Attributes:
        field: Column name.
        row: Row of the column, NEW or OLD. Default: NEW, and OLD on DELETE.
    """

    field: PgName
    row: RowName | None = None


class Comparison(_Strict):
    """A comparison of one column with a value, another column, or NULL.

    Attributes:
        field: Column name.
        op: Operator. IS DISTINCT FROM without ``value`` and ``ref`` compares OLD with NEW.
        value: Value to compare with, cast to the column's type.
        row: Row of ``field``, NEW or OLD. Default: NEW, and OLD on DELETE.
        ref: Column to compare with, instead of ``value``.
    """

    field: PgName
    op: Operator
    value: ComparisonValue | None = None
    row: RowName | None = None
    ref: ColumnReference | None = None

    @property
    def detects_change(self) -> bool:
        """Whether this tests that the column changed: IS DISTINCT FROM without an operand."""
        return self.op == "IS DISTINCT FROM" and self.ref is None and "value" not in self.model_fields_set

    @property
    def is_not_null(self) -> bool:
        """Whether this is IS DISTINCT FROM null, another spelling of IS NOT NULL."""
        return self.op == "IS DISTINCT FROM" and self.value is None and "value" in self.model_fields_set

    @model_validator(mode="after")
    def _check_operands(self) -> Self:
        has_value = "value" in self.model_fields_set
        if self.ref is not None and has_value:
            raise ValueError("value and ref exclude each other: remove one")
        if self.op in UNARY_OPERATORS:
            if self.ref is not None or self.value is not None:
                raise ValueError(f"{self.op} has no operand: remove value and ref")
        elif self.op != "IS DISTINCT FROM" and self.ref is None and self.value is None:
            hint = "use IS NULL or IS NOT NULL to compare with null" if has_value else "set value or ref"
            raise ValueError(f"{self.op} needs an operand: {hint}")
        if self.op in PATTERN_OPERATORS and self.value is not None and _ends_in_escape(self.value):
            # PostgreSQL raises this error at run time, so it would fail the user's writes.
            raise ValueError(f"the pattern {self.value!r} ends in an escape character: write two backslashes for one")
        return self


class AllOf(_Strict):
    """``{"AND": [...]}``: all conditions are true."""

    conditions: "tuple[Condition, ...]" = Field(alias="AND", min_length=1)


class AnyOf(_Strict):
    """``{"OR": [...]}``: at least one condition is true."""

    conditions: "tuple[Condition, ...]" = Field(alias="OR", min_length=1)


class Not(_Strict):
    """``{"NOT": {...}}``: the condition is false. As in SQL, the negation of NULL is NULL and does not fire."""

    condition: "Condition" = Field(alias="NOT")


def _condition_tag(value: Any) -> str:
    if isinstance(value, dict):
        return next((key for key in ("AND", "OR", "NOT") if key in value), "comparison")
    tags: dict[type, str] = {AllOf: "AND", AnyOf: "OR", Not: "NOT"}
    return tags.get(type(value), "comparison")


Condition = Annotated[
    Annotated[Comparison, Tag("comparison")]
    | Annotated[AllOf, Tag("AND")]
    | Annotated[AnyOf, Tag("OR")]
    | Annotated[Not, Tag("NOT")],
    Discriminator(_condition_tag),
]

for _model in (AllOf, AnyOf, Not):
    _model.model_rebuild()


def comparisons(condition: Comparison | AllOf | AnyOf | Not) -> Iterator[Comparison]:
    """Yield every comparison in a condition, from left to right."""
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
