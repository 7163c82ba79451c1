"""The wheel of jobfn that a new project gets."""

import zipfile
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from jobfn.cli.init import init_command
from jobfn.deploy.own_wheel import pack_own_wheel
from jobfn.install import SOURCE

INSTALLED = {
    "jobfn/__init__.py": "",
    "jobfn/cli.py": "main = print\n",
    "jobfn/__pycache__/cli.cpython-311.pyc": "bytecode",
    "../../../bin/jobfn": "#!",
    "jobfn-1.2.dist-info/METADATA": "Metadata-Version: 2.4\nName: jobfn\nVersion: 1.2\n",
    "jobfn-1.2.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "jobfn-1.2.dist-info/entry_points.txt": "[console_scripts]\njobfn = jobfn.cli:main\n",
    "jobfn-1.2.dist-info/licenses/LICENSE": "MIT",
    "jobfn-1.2.dist-info/INSTALLER": "pip",
    "jobfn-1.2.dist-info/direct_url.json": '{"url": "https://user:secret@example.com/jobfn.git"}',
}


def install(folder: Path, files: dict[str, str]) -> Distribution:
    for name, text in files.items():
        if not name.startswith(".."):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    info = folder / "jobfn-1.2.dist-info"
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in (*files, "jobfn-1.2.dist-info/RECORD")))
    return Distribution.at(info)


def test_wheel_has_the_installed_code_without_what_installers_add(tmp_path: Path) -> None:
    wheel = pack_own_wheel(tmp_path, install(tmp_path / "lib" / "python" / "site", INSTALLED))
    assert wheel == tmp_path / "jobfn-1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        assert sorted(archive.namelist()) == [
            "jobfn-1.2.dist-info/METADATA",
            "jobfn-1.2.dist-info/RECORD",
            "jobfn-1.2.dist-info/WHEEL",
            "jobfn-1.2.dist-info/entry_points.txt",
            "jobfn-1.2.dist-info/licenses/LICENSE",
            "jobfn/__init__.py",
            "jobfn/cli.py",
        ]
        assert archive.read("jobfn/cli.py") == b"main = print\n"
        record = archive.read("jobfn-1.2.dist-info/RECORD").decode().splitlines()
    assert record[:2] == [
        "jobfn/__init__.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0",
        "jobfn/cli.py,sha256=qQ8LSY8KXMqSgwXTxxOUeUIFThISV3CWlwdEOi50MsI,13",
    ]
    assert record[-1] == "jobfn-1.2.dist-info/RECORD,,"


def test_editable_installation_gets_the_command_that_builds_the_wheel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {name: text for name, text in INSTALLED.items() if not name.startswith("jobfn/")}
    assert pack_own_wheel(tmp_path, install(tmp_path / "site", {"jobfn.pth": "/src"} | files)) is None
    init_command(tmp_path / "orders", yes=True)  # jobfn's own environment is editable
    assert f"next: pip wheel --no-deps --wheel-dir {tmp_path}/orders/wheels 'jobfn{SOURCE}'" in capsys.readouterr().out
