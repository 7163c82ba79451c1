"""Settings from the environment: a pydantic model whose fields are aliased to variables.

``function/settings.py`` and ``worker/settings.py`` are the two sides' settings.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, ValidationError

from jobfn.errors import ConfigurationError

_PASSWORD = re.compile(r"//\S*@")


def _comma_separated(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


#: A list of words, given as one text with commas between them.
CommaSeparated = Annotated[list[str], BeforeValidator(_comma_separated)]


class EnvironmentSettings(BaseModel):
    """A settings model. In code, fields are given by name; from the environment, by their aliases."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="ignore")

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], **overrides: Any) -> Self:
        """Read the variables that the fields name; an empty one counts as unset.

        Args:
            environ: Such as ``os.environ``.
            overrides: Fields by name, which go before the environment; None counts as not given.

        Raises:
            ConfigurationError: A variable holds what it cannot mean; names the variable.
        """
        values: dict[str, Any] = {}
        for name, field in cls.model_fields.items():
            alias = field.validation_alias or name
            choices = [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else [str(alias)]
            given = next((environ[choice] for choice in choices if environ.get(choice)), None)
            if overrides.get(name) is not None:
                values[name] = overrides[name]
            elif given is not None:
                values[name] = given
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigurationError(_first_problem(cls, error)) from None


def _first_problem(model: type[BaseModel], error: ValidationError) -> str:
    """The first mismatch in one line, by the variable's name; what it held is shown, but no URL's password."""
    first = error.errors(include_url=False)[0]
    message = str(first["msg"]).removeprefix("Value error, ")
    if not first["loc"]:
        return message
    name = str(first["loc"][0])
    field = model.model_fields.get(name)
    alias = field.validation_alias if field is not None else None
    variable = str(alias.choices[0]) if isinstance(alias, AliasChoices) else str(alias or name)
    shown = _PASSWORD.sub("//***@", repr(first["input"]))
    return f"{variable}={shown}: {message}"
