"""``handler.json``: what ``jobfn export-handler`` writes, and folders with a plain handler."""

import json
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from jobfn import FunctionApp, JobContext, LoadError, Requirement, task
from jobfn.cli.app import run
from jobfn.function.handler_manifest import handler_manifest
from jobfn.function.loading import load_app


@pytest.fixture(autouse=True)
def _modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Unload the modules that the test imports."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


class Address(BaseModel):
    city: str


class Mail(BaseModel):
    to: str = Field(description="Recipient")
    copies: int | None = None
    price: Decimal
    urgent: bool = False
    ratio: float
    kind: Literal["a", "b"]
    address: Address
    tags: list[str]


class Receipt(BaseModel):
    id: str
    raw: dict[str, Any]


@task("email:send_email", secrets=["MAILGUN_API_KEY"], configs=[Requirement("SMTP_HOST", required=False)])
async def send_email(payload: Mail) -> Receipt:
    """Send a mail.

    More about it.
    """
    raise NotImplementedError


def test_manifest_has_ports_secrets_and_configs_of_the_task() -> None:
    manifest = handler_manifest(send_email)
    schema = manifest.pop("payloadSchema")
    assert schema["required"] == ["to", "price", "ratio", "kind", "address", "tags"]
    assert manifest == {
        "name": "email-send-email",
        "version": "0.1.0",
        "type": "python",
        "taskIdentifier": "email:send_email",
        "scope": "platform",
        "description": "Send a mail.",
        "requiredSecrets": [{"name": "MAILGUN_API_KEY", "required": True}],
        "requiredConfigs": [{"name": "SMTP_HOST", "required": False}],
        "inputs": [
            {"name": "to", "type": "string", "description": "Recipient"},
            {"name": "copies", "type": "number", "optional": True},
            {"name": "price", "type": "json"},
            {"name": "urgent", "type": "boolean", "optional": True},
            {"name": "ratio", "type": "number"},
            {"name": "kind", "type": "string"},
            {"name": "address", "type": "json"},
            {"name": "tags", "type": "json"},
        ],
        "outputs": [{"name": "id", "type": "string"}, {"name": "raw", "type": "json"}],
    }


def test_fields_that_the_task_does_not_determine_are_kept() -> None:
    existing = {
        "name": "send-email",
        "version": "1.6.4",
        "port": 8081,
        "taskIdentifier": "old",
        "description": "Old.",
        "requiredSecrets": [{"name": "MAILGUN_API_KEY", "required": False, "provider": "mailgun"}, {"name": "GONE"}],
        "icon": "mail",
        "volatile": True,
    }
    manifest = handler_manifest(send_email, existing)
    assert manifest["requiredSecrets"] == [{"name": "MAILGUN_API_KEY", "required": True, "provider": "mailgun"}]
    kept = ("name", "version", "type", "port", "taskIdentifier", "description", "icon", "volatile")
    assert [manifest[name] for name in kept] == [
        "send-email",
        "1.6.4",
        "python",
        8081,
        "email:send_email",
        "Send a mail.",
        "mail",
        True,
    ]


def test_task_without_fields_has_no_ports_and_keeps_those_of_the_file() -> None:
    @task("any")
    def anything(payload: dict[str, Any]) -> None: ...

    assert "inputs" not in handler_manifest(anything)
    assert handler_manifest(anything)["payloadSchema"] == {"additionalProperties": True, "type": "object"}
    existing = {"payloadSchema": {"type": "object"}, "inputs": [{"name": "a", "type": "json"}], "description": "Any."}
    manifest = handler_manifest(anything, existing)
    assert {name: manifest[name] for name in existing} == existing


TWO_TASKS = """
from jobfn import task

@task("first")
def first(payload: None) -> None: ...

@task("second")
def second(payload: None) -> None: ...
"""


def test_export_handler_prints_one_task_and_updates_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "two_tasks.py").write_text(TWO_TASKS)
    file = tmp_path / "handler.json"
    target = str(tmp_path / "two_tasks.py")
    assert run(["export-handler", target, "--task", "first"]) == 0
    assert json.loads(capsys.readouterr().out)["taskIdentifier"] == "first"
    file.write_text('{"name": "one", "version": "3.0.0"}')
    assert run(["export-handler", target, "--task", "second", "--output", str(file)]) == 0
    assert capsys.readouterr().out == f"wrote {file}: second\n"
    content = json.loads(file.read_text())
    assert (content["name"], content["version"], content["taskIdentifier"]) == ("one", "3.0.0", "second")


def test_export_handler_writes_one_file_per_task_into_a_folder(tmp_path: Path) -> None:
    (tmp_path / "two_tasks.py").write_text(TWO_TASKS)
    (tmp_path / "functions").mkdir()
    assert run(["export-handler", str(tmp_path / "two_tasks.py"), "--output", str(tmp_path / "functions")]) == 0
    written = {path: json.loads(path.read_text())["name"] for path in (tmp_path / "functions").rglob("*.json")}
    assert written == {
        tmp_path / "functions" / "first" / "handler.json": "first",
        tmp_path / "functions" / "second" / "handler.json": "second",
    }


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "has several tasks, and handler.json describes one: choose it with --task"),
        (["--task", "third"], "--task 'third' is not a task here: use one of first, second"),
        (["--task", "first", "--output", "two_tasks.py/handler.json"], "cannot be written"),
        (["--task", "first", "--output", "broken.json"], "broken.json is not valid JSON"),
        (["--task", "first", "--output", "list.json"], "list.json must be a JSON object"),
    ],
)
def test_export_handler_error_says_what_to_do(
    arguments: list[str],
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two_tasks.py").write_text(TWO_TASKS)
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    assert run(["export-handler", "two_tasks.py", *arguments]) == 2
    assert problem in capsys.readouterr().err


DESCRIPTION = {
    "name": "python-example",
    "version": "1.0.0",
    "type": "python",
    "taskIdentifier": "example:run",
    "requiredSecrets": [{"name": "API_KEY", "required": True}],
    "requiredConfigs": [{"name": "REGION", "required": False}],
}


def write_folder(folder: Path, handler: str, description: object = DESCRIPTION) -> Path:
    folder.mkdir()
    (folder / "handler.json").write_text(json.dumps(description))
    (folder / "handler.py").write_text(handler)
    return folder


@pytest.mark.parametrize(
    ("handler", "result"),
    [
        ("async def handler(payload: dict) -> dict:\n    return {'got': payload}", {"got": [1]}),
        ("async def handler(payload: dict, agent=None) -> dict:\n    return type(agent).__name__", "Agent"),
        ("def handler(params, context):\n    return [params, context.job_id]", [[1], 7]),
    ],
    ids=["payload", "agent", "sync with context"],
)
async def test_plain_handler_of_a_folder_is_a_task(handler: str, result: Any, tmp_path: Path) -> None:
    app = load_app(str(write_folder(tmp_path / "example", handler)))
    assert isinstance(app, FunctionApp)
    [loaded] = app.tasks.values()
    assert (loaded.identifier, loaded.location) == ("example:run", f"{tmp_path}/example/handler.py:1")
    assert loaded.secrets == (Requirement("API_KEY"),)
    assert loaded.configs == (Requirement("REGION", required=False),)
    outcome = await app.execute("example:run", b"[1]", JobContext("example:run", job_id=7))
    assert (outcome.status_code, json.loads(outcome.body)) == (200, result)


def test_functions_file_takes_precedence_and_the_name_is_the_default_task(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "plain", "async def handler(payload): ...", {"name": "just-a-name"})
    app = load_app(str(folder))
    assert isinstance(app, FunctionApp)
    assert list(app.tasks) == ["just-a-name"]
    (folder / "functions.py").write_text(TWO_TASKS)
    app = load_app(str(folder))
    assert isinstance(app, FunctionApp)
    assert list(app.tasks) == ["first", "second"]


@pytest.mark.parametrize(
    ("handler", "description", "problem"),
    [
        ("x = 1", DESCRIPTION, "handler.py has no function handler: define async def handler(payload)"),
        ("def handler(a, b): ...", DESCRIPTION, "handler is not callable as handler(payload), with agent or ctx"),
        ("def handler(a): ...", [], "handler.json must be a JSON object"),
        ("def handler(a): ...", {"version": "1"}, "handler.json: name: Field required"),
        ("def handler(a): ...", {"name": "a", "requiredSecrets": [{}]}, "handler.json: requiredSecrets.0.name: "),
    ],
)
def test_folder_that_cannot_be_loaded_is_a_one_line_error(
    handler: str, description: object, problem: str, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "broken", handler, description)
    with pytest.raises(LoadError) as caught:
        load_app(str(folder))
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folder_without_handler_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "handler.json").write_text(json.dumps(DESCRIPTION))
    with pytest.raises(LoadError, match=r"no file .*handler\.py"):
        load_app(str(tmp_path))
