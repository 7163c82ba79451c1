"""Compare docs/settings.md, which is written by hand, with the settings models."""

import re

import pytest
from pydantic import AliasChoices
from pydantic.fields import FieldInfo

from jobfn.dashboard.settings import DashboardSettings
from jobfn.function.settings import FunctionSettings
from jobfn.mcp.settings import McpSettings
from jobfn.worker.settings import ServiceSettings
from support.docs.blocks import ROOT

#: How the page writes empty defaults, other than "none".
EMPTY_DEFAULTS = {
    "JOBS_SUPPORTED": "empty",
    "INTERNAL_JOBS_CALLBACK_URL": "`http://{JOBS_CALLBACK_HOST}:{port}/callback`",
    "JOBFN_REPORT_TIMEOUT_SECONDS": "the job's lease",
    "K_SERVICE": "set by Knative",
}


def documented_defaults() -> set[tuple[str, str]]:
    """Return the variables of the page's tables, each with its default."""
    rows = re.findall(r"^\| (`[A-Z].*?) \| (.*?) \|", (ROOT / "docs" / "settings.md").read_text(), re.MULTILINE)
    return {(variable, default) for cell, default in rows for variable in re.findall(r"`(\w+)`", cell)}


def format_default(variable: str, field: FieldInfo) -> str:
    """Return a default as the page writes it."""
    match field.get_default(call_default_factory=True):
        case None | {} | []:
            return EMPTY_DEFAULTS.get(variable, "none")
        case bool(value):
            return f"`{str(value).lower()}`"
        case int(value) | float(value):
            return f"{value:.10g}"
        case value:
            return f"`{value}`"


@pytest.mark.parametrize("model", [ServiceSettings, FunctionSettings, DashboardSettings, McpSettings])
def test_settings_page_lists_every_variable_with_its_default(
    model: type[ServiceSettings | FunctionSettings | DashboardSettings | McpSettings],
) -> None:
    defaults = documented_defaults()
    missing = [
        (variable, format_default(variable, field))
        for field in model.model_fields.values()
        if (alias := field.validation_alias) is not None
        for variable in map(str, alias.choices if isinstance(alias, AliasChoices) else [alias])
        if (variable, format_default(variable, field)) not in defaults
    ]
    assert missing == []
