"""Files of a new project that come from a ``handler.json``: the handler with its payload's model, and tests. Pure."""

import json
import keyword
import re
import shlex
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import BaseModel

from jobfn.handler_json import HandlerJson
from jobfn.settings import Requirement

LINE_LENGTH: Final = 120
#: Length of a field's description, so that its line fits.
_MAX_DESCRIPTION_CHARACTERS: Final = 90
_TYPES: Final = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "array": "list[Any]",
    "object": "dict[str, Any]",
    "null": "None",
}
_EXAMPLES: Final[Mapping[str, object]] = {
    "string": "text",
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "array": [],
    "object": {},
    "null": None,
}
_RESERVED: Final = frozenset(dir(BaseModel))

_FUNCTIONS: Final = '''"""The task of handler.json. A handler's annotation defines its payload."""

{imports}

{model}@task({options})
async def handle(payload: {payload}, ctx: JobContext) -> dict[str, Any]:
    """{description}"""
    ctx.log.info("handling: replace this with your work")
{result}
'''
_TESTS: Final = '''"""Tests of the handler through the app, and of a job from the queue."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

import functions
from jobfn.testing import DrainJobs, FunctionUnderTest, JobsDatabase

TASK = {task}
{payload}
{variables}


@pytest.fixture(autouse=True)
def _variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variables that the task requires."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "test")


def test_delivery_is_reported_as_successful(jobfn_app: Callable[..., FunctionUnderTest]) -> None:
    delivery = asyncio.run(jobfn_app(functions).deliver(TASK, PAYLOAD))
    assert delivery.ok, delivery.error


def test_job_from_the_queue_is_run(jobs_db: JobsDatabase, drain_jobs: DrainJobs) -> None:
    """From SQL to the handler, with a real PostgreSQL and the real worker."""
    jobs_db.execute(f"select app_jobs.add_job('{{TASK}}', $json${{json.dumps(PAYLOAD)}}$json$::json)")
    (run,) = asyncio.run(drain_jobs(functions))
    assert run.error is None
'''


def render_functions(description: HandlerJson, task: str) -> str:
    """Return ``functions.py``: a model of the payload, and a handler that declares secrets and configs."""
    model = _model(description.payload_schema)
    secrets = _requirements("secrets", description.required_secrets)
    configs = _requirements("configs", description.required_configs)
    options = [_quote(task), *secrets, *configs]
    names = ["JobContext", *(["Requirement"] if "Requirement(" in "".join(options) else []), "task"]
    typing = ["Any", *(["Literal"] if "Literal[" in model else [])]
    pydantic = [name for name in ("BaseModel", "ConfigDict", "Field") if f"{name}(" in model or f"({name})" in model]
    imports = [f"from typing import {', '.join(typing)}", ""]
    imports += [f"from pydantic import {', '.join(pydantic)}", ""] if pydantic else []
    return _FUNCTIONS.format(
        imports="\n".join([*imports, f"from jobfn import {', '.join(names)}"]),
        model=f"\n{model}\n\n" if model else "\n",
        options=options[0] if len(options) == 1 else "\n    " + ",\n    ".join(options) + ",\n",
        payload="Payload" if model else "dict[str, Any]",
        description=summary_of(description) or "Handle a job.",
        result=_call(
            "    return {", [f"{_quote(str(port.get('name')))}: None" for port in description.outputs], "}", indent=4
        ),
    )


def render_tests(description: HandlerJson, task: str) -> str:
    """Return ``tests/test_functions.py``."""
    variables = [*description.required_secrets, *description.required_configs]
    fields = [
        f"{_quote(name)}: {_quote(value) if isinstance(value, str) else repr(value)}"
        for name, value in example_payload(description).items()
    ]
    return _TESTS.format(
        task=_quote(task),
        payload=_call("PAYLOAD: dict[str, Any] = {", fields, "}", indent=0),
        variables=_call(
            "VARIABLES: list[str] = [", [_quote(each.name) for each in variables if each.required], "]", indent=0
        ),
    )


def render_readme(text: str, description: HandlerJson) -> str:
    """Return the template's README with a payload of this function, and without the blueprint, which it lacks."""
    text = re.sub(r"`blueprint\.yaml` adds .*?\n\n", "", text, flags=re.DOTALL)
    return text.replace("""'{"id": 1, "total": "9.90"}'""", shlex.quote(json.dumps(example_payload(description))))


def render_handler_json(description: HandlerJson, task: str) -> str:
    """Return ``handler.json`` of the Python function."""
    content = description.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return json.dumps(content | {"type": "python", "taskIdentifier": task}, indent=2, ensure_ascii=False) + "\n"


def example_payload(description: HandlerJson) -> dict[str, object]:
    """Return a payload with the required fields."""
    schema = description.payload_schema
    properties = schema.get("properties", {})
    return {name: _example(properties[name]) for name in schema.get("required", ()) if name in properties}


def summary_of(description: HandlerJson) -> str:
    """Return the description in one line that needs no escapes."""
    return " ".join(description.description.split()).replace('"', "'").replace("\\", "/")


def _model(schema: Mapping[str, Any]) -> str:
    """Return the class of a payload; empty if its schema has no properties."""
    properties = schema.get("properties", {})
    if not properties:
        return ""
    lines = ["class Payload(BaseModel):", '    """The payload of a job."""', ""]
    if schema.get("additionalProperties") is False:
        lines += ['    model_config = ConfigDict(extra="forbid")', ""]
    names: set[str] = set()
    for name, declared in properties.items():
        lines.append(_field(name, declared, names, is_required=name in schema.get("required", ())))
    return "\n".join(lines) + "\n"


def _field(name: str, declared: Mapping[str, Any], names: set[str], *, is_required: bool) -> str:
    attribute = re.sub(r"\W", "_", name, flags=re.ASCII).lstrip("_") or "field"
    if attribute[0].isdigit():
        attribute = f"field_{attribute}"
    while keyword.iskeyword(attribute) or attribute in _RESERVED or attribute in names:
        attribute += "_"
    names.add(attribute)
    annotation = _annotation(declared)
    if not is_required and "None" not in annotation.split(" | "):
        annotation += " | None"
    arguments = [] if is_required else ["default=None"]
    if attribute != name:
        arguments.append(f"alias={_quote(name)}")
    text = " ".join(str(declared.get("description", "")).split())
    if text:
        arguments.append(f"description={_quote(textwrap.shorten(text, _MAX_DESCRIPTION_CHARACTERS, placeholder='…'))}")
    if not arguments:
        return f"    {attribute}: {annotation}"
    if arguments == ["default=None"]:
        return f"    {attribute}: {annotation} = None"
    return _call(f"    {attribute}: {annotation} = Field(", arguments, ")", indent=4)


def _annotation(declared: Mapping[str, Any]) -> str:
    values = declared.get("enum")
    if isinstance(values, list) and values and all(isinstance(value, str) for value in values):
        return f"Literal[{', '.join(map(_quote, values))}]"
    declared_types = declared.get("type")
    types = declared_types if isinstance(declared_types, list) else [declared_types]
    known = [_TYPES[each] for each in types if each in _TYPES]
    return " | ".join(dict.fromkeys(known)) if known and len(known) == len(types) else "Any"


def _example(declared: Mapping[str, Any]) -> object:
    values = declared.get("enum")
    if isinstance(values, list) and values:
        return values[0]
    declared_types = declared.get("type")
    first = declared_types[0] if isinstance(declared_types, list) and declared_types else declared_types
    return _EXAMPLES.get(str(first), "text")


def _requirements(option: str, requirements: Iterable[Requirement]) -> list[str]:
    entries = [
        _quote(each.name) if each.required else f"Requirement({_quote(each.name)}, required=False)"
        for each in requirements
    ]
    return [_call(f"    {option}=[", entries, "],", indent=4).strip().removesuffix(",")] if entries else []


def _call(start: str, entries: list[str], end: str, *, indent: int) -> str:
    """Return entries in one line, or one entry per line if it is too long, as ruff formats it."""
    line = start + ", ".join(entries) + end
    if len(line) <= LINE_LENGTH:
        return line
    space = " " * indent
    inner = ", ".join(entries)
    if end == ")" and indent + 4 + len(inner) <= LINE_LENGTH:
        return f"{start}\n{space}    {inner}\n{space}{end}"
    return start + "".join(f"\n{space}    {entry}," for entry in entries) + f"\n{space}{end}"


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
