"""The workflows in ``.github`` call targets of the Makefile, on every supported Python and PostgreSQL."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())
    return content


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_there_are_workflows_for_changes_and_releases() -> None:
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "release.yml"]


@pytest.mark.parametrize("name", ["ci.yml", "release.yml"])
def test_make_steps_name_targets_that_exist(name: str) -> None:
    runs = "\n".join(step.get("run", "") for step in steps(read(name)))
    called = re.findall(r"^make ([a-z-]+)", runs, re.MULTILINE)
    assert called
    assert set(called) <= TARGETS


def test_changes_are_tested_on_every_python_and_postgresql() -> None:
    jobs = read("ci.yml")["jobs"]
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    pythons = [each.rpartition(" ")[2] for each in classifiers if re.search(r":: 3\.\d+$", each)]
    assert pythons == ["3.11", "3.12", "3.13", "3.14"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == pythons
    assert jobs["postgres"]["strategy"]["matrix"]["postgres"] == ["14", "15", "16", "17", "18"]


def test_release_publishes_with_the_identity_of_the_workflow_and_no_token() -> None:
    publish = read("release.yml")["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert not any("password" in step.get("with", {}) for step in publish["steps"])


@pytest.mark.parametrize("name", ["ci.yml", "release.yml"])
def test_workflows_start_with_rights_to_read_only(name: str) -> None:
    assert read(name)["permissions"] == {"contents": "read"}
