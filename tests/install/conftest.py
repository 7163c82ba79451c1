"""The sdist and the wheel, and environments with nothing else installed."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from support.installs import ROOT, Environment
from support.processes import environment


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder, which `make test-install` runs."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("install")


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout + process.stderr
    return folder


@pytest.fixture(scope="session")
def wheel(dist: Path) -> Path:
    (path,) = dist.glob("jobfn-*.whl")
    return path


@pytest.fixture(scope="session")
def extras(wheel: Path) -> list[str]:
    """Extras in the metadata of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return re.findall(r"^Provides-Extra: (\S+)", archive.read(name).decode(), re.MULTILINE)


@pytest.fixture
def new_environment(tmp_path: Path) -> Callable[..., Environment]:
    """Create an empty environment and install into it. ``python``: its version; default: that of the tests."""
    uv = str(Path(sys.executable).with_name("uv"))
    certificates = {"UV_SYSTEM_CERTS": "true"}  # as pip does
    variables = os.environ | certificates

    def make(*requirements: str, python: str = sys.executable) -> Environment:
        folder = tmp_path / "environment"
        environment_ = Environment(folder, environment({"PATH": f"{folder / 'bin'}:/usr/bin:/bin", **certificates}))
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([uv, "venv", "--quiet", "--seed", "--python", python, str(folder)], check=True, env=variables)
        target = str(folder / "bin" / "python")
        subprocess.run([uv, "pip", "install", "--quiet", "--python", target, *requirements], check=True, env=variables)
        return environment_

    return make
