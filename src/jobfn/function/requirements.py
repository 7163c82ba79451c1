"""Environment variables that tasks declare: ``@task(..., secrets=["STRIPE_KEY"], configs=["SMTP_HOST"])``.

They become ``requiredSecrets`` and ``requiredConfigs`` of ``handler.json``. An app does not start without them.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from jobfn.errors import ConfigurationError
from jobfn.function.signature import fail
from jobfn.settings import Requirement

_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def read_requirements(handler: object, option: str, declared: object) -> tuple[Requirement, ...]:
    """Return the declared variables; a name alone is a required one.

    Raises:
        TaskDefinitionError: This is not a list of names and requirements.
    """
    if not isinstance(declared, list | tuple):
        fail(handler, f'{option}={declared!r} must be a list of variables, for example {option}=["API_KEY"]')
    requirements = tuple(Requirement(entry) if isinstance(entry, str) else entry for entry in declared)
    for requirement in requirements:
        if not isinstance(requirement, Requirement) or not _VARIABLE.fullmatch(requirement.name):
            fail(
                handler,
                f'{option} has {requirement!r}: use the name of an environment variable such as "API_KEY", '
                'or Requirement("API_KEY", required=False)',
            )
    return requirements


def check_requirements(tasks: Iterable[Any], environ: Mapping[str, str]) -> None:
    """Check that the required variables of these tasks are set.

    Raises:
        ConfigurationError: Some are not. The message names them and their tasks, never a value.
    """
    missing: dict[str, str] = {}
    for task in tasks:
        for kind, requirements in (("secret", task.secrets), ("config", task.configs)):
            for requirement in requirements:
                if requirement.required and not environ.get(requirement.name):
                    missing.setdefault(requirement.name, f"{requirement.name} ({kind} of {task.identifier})")
    if missing:
        variables = "variable is" if len(missing) == 1 else "variables are"
        raise ConfigurationError(
            f"{len(missing)} required environment {variables} not set: {', '.join(missing.values())}. "
            "Set it, or declare it with Requirement(..., required=False)"
        )
