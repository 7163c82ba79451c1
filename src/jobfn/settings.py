"""Base of the settings models: pydantic models whose fields are read from environment variables.

The two sides define theirs in ``function/settings.py`` and ``worker/settings.py``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from jobfn.errors import ConfigurationError

#: Minimum length of a secret, so that it cannot be guessed.
MIN_SECRET_CHARACTERS: Final = 32
SHORT_SECRET: Final = (
    f"a secret must have at least {MIN_SECRET_CHARACTERS} characters: make one with `openssl rand -hex 32`"
)

_URL_CREDENTIALS = re.compile(r"//\S*@")


def _split_commas(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _check_secrets(secrets: list[str]) -> list[str]:
    if any(len(secret) < MIN_SECRET_CHARACTERS for secret in secrets):
        raise ValueError(SHORT_SECRET)
    return secrets


#: A list of strings, given as one comma-separated string.
CommaSeparated = Annotated[list[str], BeforeValidator(_split_commas)]
#: A list of secrets, given as one comma-separated string.
Secrets = Annotated[CommaSeparated, AfterValidator(_check_secrets)]


@dataclass(frozen=True, slots=True)
class Requirement:
    """An environment variable that a task reads: a secret or a setting.

    Attributes:
        name: Name of the variable.
        required: Whether the function does not start without it.
    """

    name: str
    required: bool = True


class EnvironmentSettings(BaseModel):
    """Base of a settings model. Code passes fields by name; the environment by their aliases."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="ignore")

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], **overrides: Any) -> Self:
        """Read the settings from environment variables. An empty variable counts as unset.

        Args:
            environ: Environment, for example ``os.environ``.
            overrides: Fields by name that take precedence over the environment. None counts as not given.

        Raises:
            ConfigurationError: A value is invalid. The message names the variable.
        """
        values: dict[str, Any] = {}
        for name, field in cls.model_fields.items():
            override = overrides.get(name)
            value = override if override is not None else _first_set(environ, _variables(name, field))
            if value is not None:
                values[name] = value
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigurationError(_first_problem(cls, error)) from None

    @classmethod
    def variables(cls) -> set[str]:
        """Return the names of the environment variables."""
        return {variable for name, field in cls.model_fields.items() for variable in _variables(name, field)}


def _variables(name: str, field: FieldInfo) -> list[str]:
    alias = field.validation_alias or name
    return [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else [str(alias)]


def _first_set(environ: Mapping[str, str], variables: list[str]) -> str | None:
    return next((environ[variable] for variable in variables if environ.get(variable)), None)


def _first_problem(model: type[BaseModel], error: ValidationError) -> str:
    """Return the first validation error in one line, with the variable and its value, but without secrets."""
    first = error.errors(include_url=False)[0]
    message = str(first["msg"]).removeprefix("Value error, ")
    if not first["loc"]:
        return message
    name = str(first["loc"][0])
    field = model.model_fields.get(name)
    variable = _variables(name, field)[0] if field is not None else name
    if field is not None and not field.repr:
        return f"{variable}: {message}"
    value = _URL_CREDENTIALS.sub("//***@", repr(first["input"]))
    return f"{variable}={value}: {message}"
