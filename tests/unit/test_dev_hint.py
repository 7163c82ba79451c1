"""The command that the banner of ``jobfn dev`` names."""

import os
import sys
from pathlib import Path

import pytest

from jobfn.devserver.hint import command_path, enqueue_hint
from jobfn.worker.routes import Routes
from jobfn.worker.settings import ServiceSettings
from support.commands import Spawn
from support.docs.blocks import ROOT
from support.network import LOOPBACK, free_port

PAY = """
from pydantic import BaseModel
from jobfn import task

class Invoice(BaseModel):
    id: int
    note: str | None = None

@task("pay")
def pay(payload: Invoice) -> None: ...
"""
OWN = Path(sys.executable).with_name("jobfn")


def test_command_on_the_path_is_named_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", f"{OWN.parent}{os.pathsep}/bin")
    assert command_path(tmp_path) == "jobfn"


def test_command_of_an_environment_that_is_not_active_has_its_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert command_path(tmp_path) == str(OWN)
    assert command_path(OWN.parents[1]) == "bin/jobfn"


@pytest.mark.parametrize(
    ("file", "text", "arguments"),
    [
        (
            ROOT / "examples" / "send_email" / "functions.py",
            None,
            """enqueue send_email '{"subject": "Hi", "text": "It works.", "to": "grace@example.com"}'""",
        ),
        (
            Path("functions.py"),
            'from jobfn import task\n@task("it\'s")\ndef x(payload: dict) -> None: ...\n',
            """enqueue 'it'"'"'s' '{}'""",
        ),
        (
            Path("functions.py"),
            PAY,
            """enqueue pay '{"id": 0}'""",
        ),
    ],
)
async def test_hint_adds_a_job_of_the_first_task_with_an_example(
    spawn: Spawn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path, text: str | None, arguments: str
) -> None:
    if text is not None:
        (tmp_path / file).write_text(text)
    port = free_port()
    app = await spawn("jobfn", "serve", str(file), "--host", LOOPBACK, "--port", str(port), SEND_EMAIL_DRY_RUN="true")
    await app.until("serving")
    monkeypatch.setenv("PATH", str(OWN.parent))
    settings = ServiceSettings.from_environ({}, gateway_url=f"http://{LOOPBACK}:{port}")
    assert await enqueue_hint(Routes.from_settings(settings), tmp_path) == f"jobfn {arguments}"


async def test_function_app_that_does_not_answer_has_a_general_hint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(OWN.parent))
    settings = ServiceSettings.from_environ({}, gateway_url=f"http://{LOOPBACK}:{free_port()}")
    hint = await enqueue_hint(Routes.from_settings(settings), tmp_path)
    assert hint == "jobfn enqueue TASK '{\"id\": 1}'"
