"""Help of every command: one summary line, options with help, and an example."""

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from jobfn.cli.app import build_app, run


def commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


COMMANDS = dict(commands(typer.main.get_command(build_app()), "jobfn"))


@pytest.mark.parametrize("path", COMMANDS)
def test_command_has_a_summary_and_an_example(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = COMMANDS[path]
    summary = (command.help or "").partition("\n")[0]
    assert summary.endswith(".")
    assert summary.count(". ") == 0
    assert "example" in command.epilog
    assert path in command.epilog
    assert [parameter.name for parameter in command.params if not getattr(parameter, "help", "")] == []
    assert run([*path.split()[1:], "--help"]) == 0
    assert max(len(line) for line in capsys.readouterr().out.splitlines()) <= 80


@pytest.mark.parametrize(
    ("path", "example"),
    [
        ("jobs retry", ["jobfn", "jobs", "retry", "--task", "send_email", "--older-than", "1h", "--yes"]),
        (
            "schedules add",
            [
                "jobfn",
                "schedules",
                "add",
                "daily_report",
                "0 9 * * *",
                '{"report_type": "daily"}',
                "--tz",
                "Europe/Paris",
            ],
        ),
    ],
)
def test_example_can_be_copied(path: str, example: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*path.split(), "--help"]) == 0
    commands = capsys.readouterr().out.partition("examples:\n")[2].replace("\\\n", "").splitlines()
    assert example in [shlex.split(command) for command in commands]


@pytest.mark.parametrize("path", ["", *sorted({path.split()[1] for path in COMMANDS if path.count(" ") == 2})])
def test_summaries_are_not_truncated(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*path.split(), "--help"]) == 0
    summaries = capsys.readouterr().out.partition("Commands:\n")[2].splitlines()
    assert summaries
    assert [line for line in summaries if line.endswith("...")] == []


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("retry", ["--from-step"]),
        ("run-now", []),
        ("wake", []),
        ("cancel", ["--running", "--reason"]),
        ("remove", []),
    ],
)
def test_actions_list_their_own_options_only(
    command: str, shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["jobs", command, "--help"]) == 0
    options = capsys.readouterr().out.partition("Options:\n")[2]
    assert [name for name in ("--running", "--reason", "--from-step") if f"  {name} " in options] == shown
