"""Projects from a ``handler.json``: ``jobfn init --handler-json``."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobfn import FunctionApp, JobContext, Requirement
from jobfn.cli.app import run
from jobfn.deploy.handler_project import example_payload
from jobfn.function.loading import load_app
from jobfn.handler_json import HandlerJson

SEND_EMAIL: dict[str, Any] = {
    "name": "send-email",
    "version": "1.6.4",
    "type": "node-graphql",
    "port": 8081,
    "taskIdentifier": "email:send",
    "description": 'Sends "transactional" emails\nvia SMTP',
    "requiredSecrets": [{"name": "MAILGUN_API_KEY", "required": True}, {"name": "MAILGUN_DOMAIN", "required": False}],
    "requiredConfigs": [{"name": f"SMTP_SETTING_{number}", "required": False} for number in range(5)],
    "payloadSchema": {
        "type": "object",
        "required": ["to", "kind", "from", "count", "model_config"],
        "properties": {
            "to": {"type": "string", "format": "email", "description": "Recipient email address"},
            "kind": {"type": "string", "enum": ["a'b", "c"], "description": "The kind. " * 20},
            "from": {"type": "string"},
            "count": {"type": "integer"},
            "model_config": {"type": ["number", "string"]},
            "2nd": {"type": "boolean"},
            "reply-to": {"type": "string", "description": "Where answers go, if not to the sender of the mail itself"},
            "anything": {},
        },
        "additionalProperties": False,
    },
    "outputs": [{"name": "result", "type": "json"}],
    "icon": "mail",
}


@pytest.fixture(autouse=True)
def _modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Unload the modules that the test imports."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def init(folder: Path, content: object) -> int:
    file = folder / "given.json"
    file.write_text(json.dumps(content))
    return run(["init", str(folder / "project"), "--yes", "--handler-json", str(file)])


@pytest.mark.parametrize("content", [SEND_EMAIL, {"name": "plain"}], ids=["full", "name only"])
def test_project_is_formatted(content: dict[str, Any], tmp_path: Path) -> None:
    assert init(tmp_path, content) == 0
    ruff = str(Path(sys.executable).with_name("ruff"))
    for arguments in (["check"], ["format", "--check"]):
        command = [ruff, *arguments, "."]
        result = subprocess.run(command, cwd=tmp_path / "project", capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("content", [SEND_EMAIL, {"name": "plain"}], ids=["full", "name only"])
async def test_project_runs_its_example(content: dict[str, Any], tmp_path: Path) -> None:
    assert init(tmp_path, content) == 0
    project = tmp_path / "project"
    app = load_app(str(project))
    assert isinstance(app, FunctionApp)
    [task] = app.tasks.values()
    assert task.identifier == content.get("taskIdentifier", content["name"])
    body = json.dumps(example_payload(HandlerJson.model_validate(content))).encode()
    outcome = await app.execute(task.identifier, body, JobContext(task.identifier))
    assert outcome.status_code == 200, outcome.body
    assert not (project / "blueprint.yaml").exists()
    assert "9.90" not in (project / "README.md").read_text()


async def test_model_refuses_what_the_schema_does_not_allow_and_keeps_the_names(tmp_path: Path) -> None:
    assert init(tmp_path, SEND_EMAIL) == 0
    app = load_app(str(tmp_path / "project"))
    assert isinstance(app, FunctionApp)
    task = app.tasks["email:send"]
    assert task.secrets == (Requirement("MAILGUN_API_KEY"), Requirement("MAILGUN_DOMAIN", required=False))
    assert len(task.configs) == 5
    schema = task.payload_schema()
    assert list(schema["properties"]) == list(SEND_EMAIL["payloadSchema"]["properties"])
    assert schema["required"] == SEND_EMAIL["payloadSchema"]["required"]
    payload = {"to": "a", "kind": "a'b", "from": "b", "count": 1, "model_config": "x", "other": 1}
    outcome = await app.execute("email:send", json.dumps(payload).encode(), JobContext("email:send"))
    assert outcome.status_code == 422


def test_handler_json_of_the_project_can_be_exported_again(tmp_path: Path) -> None:
    assert init(tmp_path, SEND_EMAIL) == 0
    file = tmp_path / "project" / "handler.json"
    written = json.loads(file.read_text())
    assert written == SEND_EMAIL | {"type": "python"}
    assert run(["export-handler", str(tmp_path / "project"), "--output", str(file)]) == 0
    exported = json.loads(file.read_text())
    for name in ("name", "version", "port", "taskIdentifier", "requiredSecrets", "requiredConfigs", "outputs", "icon"):
        assert exported[name] == SEND_EMAIL[name]
    assert [port["name"] for port in exported["inputs"]] == list(SEND_EMAIL["payloadSchema"]["properties"])


def test_generated_test_passes(tmp_path: Path) -> None:
    assert init(tmp_path, SEND_EMAIL) == 0
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "delivery"]
    result = subprocess.run(command, cwd=tmp_path / "project", capture_output=True, text=True, check=False)
    assert "1 passed" in result.stdout, result.stdout


def test_invalid_file_is_a_one_line_error_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert init(tmp_path, {"version": "1"}) == 2
    assert "given.json: name: Field required" in capsys.readouterr().err
    assert not (tmp_path / "project").exists()
