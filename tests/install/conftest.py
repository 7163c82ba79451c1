"""The wheel as `make dist` builds it, and environments that have nothing but it."""

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
    """All of this folder is `make test-install`'s."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("install")


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make dist` makes, in a folder of the test's: sdist, and from it the wheel."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder


@pytest.fixture(scope="session")
def wheel(dist: Path) -> Path:
    (found,) = dist.glob("jobfn-*.whl")
    return found


@pytest.fixture(scope="session")
def extras(wheel: Path) -> list[str]:
    """Those that the wheel itself names."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return re.findall(r"^Provides-Extra: (\S+)", archive.read(name).decode(), re.MULTILINE)


@pytest.fixture
def new_environment(tmp_path: Path) -> Callable[[str], Environment]:
    """Make an empty environment and install something into it, with uv: it keeps what it has fetched once."""
    uv = str(Path(sys.executable).with_name("uv"))

    def make(*requirements: str) -> Environment:
        folder = tmp_path / "environment"
        made = Environment(folder, environment({"PATH": f"{folder / 'bin'}:/usr/bin:/bin"}))
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([uv, "venv", "--quiet", "--seed", "--python", sys.executable, str(folder)], check=True)
        python = str(folder / "bin" / "python")
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *requirements], check=True)
        return made

    return make
