"""The command that the banner of ``jobfn dev`` names."""

import os
import sys
from pathlib import Path

import pytest

from jobfn.devserver.hint import command_path, enqueue_hint
from jobfn.worker.routes import Routes
from jobfn.worker.settings import ServiceSettings
from support.network import LOOPBACK, free_port

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


async def test_function_app_that_does_not_answer_has_a_general_hint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(OWN.parent))
    settings = ServiceSettings.from_environ({}, gateway_url=f"http://{LOOPBACK}:{free_port()}")
    hint = await enqueue_hint(Routes.from_settings(settings), tmp_path)
    assert hint == "jobfn enqueue TASK '{\"id\": 1}'"
