"""``jobfn init``, ``inspect``, ``build`` and ``manifests``."""

import asyncio
import json
import os
import pty
import sys
from pathlib import Path

import pytest
import yaml

from support.commands import Command
from support.manifests import validate

ROOT = Path(__file__).resolve().parents[2]
ONE_TASK = 'from jobfn import task\n@task("{}")\ndef handle(payload: dict) -> None:\n    """Do it."""\n'


def list_files(folder: Path) -> list[str]:
    """Return the files below a folder, without bytecode."""
    return sorted(str(path) for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("init", "Missing argument 'FOLDER'"),
        ("init +++", "is not a valid project name"),
        ("init fine --task no\tgood", "the task 'no\\tgood' is not valid: use letters"),
        (f"init fine --task {'x' * 127}", "at most 126 characters"),
        ('init fine --description "', "one line without double quotes"),
        ("init fine --image :1", "the image ':1' is not valid"),
        ("init file/below", "file/below cannot be written (Not a directory): name a folder that you may write to"),
        ("inspect empty", "empty/functions.py does not exist: give the Python file with your tasks, or a folder"),
        ("inspect no_task.py", "has no task"),
        ("inspect other_app.py:app", "is not an app of create_app"),
        ("inspect dies.py", "dies.py cannot be imported: exit code 7"),
        ("build", "Missing option '--tag'"),
        (
            "manifests --service-image s --secret-per-function --gateway-url http://gateway",
            "--secret-per-function needs a host per function: omit --gateway-url",
        ),
        ("build own near --tag t", "'near' is not expected"),
        ("build empty --tag t", "empty has no Dockerfile"),
        ("build no_lock --tag t", "no_lock/requirements.lock is missing"),
        ("build no_wheel --tag t", "jobfn's wheel is missing in no_wheel/wheels"),
        ("build own --tag t --with podman", "podman is not installed, but needed to build the image"),
        ("build own --tag t", "docker, podman or buildah is not installed, but needed to build the image: install one"),
        ("manifests", "there is nothing to generate"),
        ("manifests own", "--image is missing"),
        ("manifests own --image i --min-scale 3 --max-scale 2", "--min-scale 3 must not exceed --max-scale 2"),
    ],
)
async def test_wrong_usage_is_one_line_and_writes_nothing(
    line: str, message: str, invoke: Command, tmp_path: Path
) -> None:
    for name, text in {
        "file": "",
        "empty/readme": "",
        "broken.py": "def (:\n",
        "no_task.py": "x = 1\n",
        "other_app.py": "async def app(scope, receive, send): ...\n",
        "dies.py": "import os\nos._exit(7)\n",
        "no_lock/Dockerfile": "RUN pip install wheels/jobfn-*.whl\n",
        "no_wheel/Dockerfile": "RUN pip install wheels/jobfn-*.whl\n",
        "no_wheel/requirements.lock": "yarl==1\n",
        "own/Dockerfile": "FROM scratch\n",
        "own/functions.py": ONE_TASK.format("email:send"),
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    before = list_files(tmp_path)
    result = await invoke("jobfn", *line.split(" "), PATH="/nowhere")
    last = result.output.splitlines()[-1]
    assert message in last
    assert last.startswith("jobfn: ")
    assert "Traceback" not in result.output
    assert result.code == 2
    assert list_files(tmp_path) == before


async def test_init_creates_a_project_and_never_overwrites_it(command: Command, tmp_path: Path) -> None:
    result = await command("jobfn", "init", "My Function", "--task", "email:welcome", "--description", "Says hello.")
    assert result.code == 0, result.output
    project = tmp_path / "My Function"
    names = {str(path.relative_to(project)) for path in project.rglob("*") if path.is_file()}
    assert names >= {
        *("functions.py", "tests/test_functions.py", "pyproject.toml", "Dockerfile", ".dockerignore", ".gitignore"),
        *("knative/service.yaml", "blueprint.yaml", "README.md", "requirements.lock", "wheels/README.md"),
    }
    texts = {name: (project / name).read_text() for name in names}
    assert not [name for name, text in texts.items() if "template-" in text or "template_" in text]
    assert 'name = "my-function"' in texts["pyproject.toml"]
    assert yaml.safe_load(texts["knative/service.yaml"])["metadata"]["name"] == "email-welcome"
    (project / "functions.py").write_text("mine")
    (project / "Dockerfile").unlink()
    again = await command("jobfn", "init", "My Function")
    assert again.code == 2
    assert "already has .dockerignore" in again.output
    assert (project / "functions.py").read_text() == "mine"
    assert not (project / "Dockerfile").exists()


async def test_init_accepts_a_folder_with_other_files(command: Command, tmp_path: Path) -> None:
    (tmp_path / "orders" / ".git").mkdir(parents=True)
    (tmp_path / "orders" / "LICENSE").write_text("mine")
    result = await command("jobfn", "init", "orders")
    assert result.code == 0, result.output
    assert "created orders/functions.py" in result.output
    assert "next: read orders/README.md" in result.output


async def test_init_asks_for_missing_options_in_a_terminal(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("jobfn")), "init", "orders", "--description", "Handles orders."),
        cwd=tmp_path,
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    os.write(master, b"order:place\n\n")
    output = b""
    while b"next: read" not in output:
        output += await asyncio.to_thread(os.read, master, 4096)
    assert await process.wait() == 0
    os.close(master)
    assert b"Task identifier [orders]: " in output
    assert b"Image [registry.example.com/orders:latest]: " in output
    assert b"Description [" not in output
    assert '@task("order:place"' in (tmp_path / "orders" / "functions.py").read_text()


async def test_inspect_lists_tasks_with_payloads(command: Command, tmp_path: Path) -> None:
    (tmp_path / "functions.py").write_text(
        "import typing\nimport pydantic\nfrom jobfn import task\nprint('hello from the module')\n"
        "class Line(pydantic.BaseModel):\n    sku: str\n"
        "class Order(pydantic.BaseModel):\n    id: int\n    lines: list[Line]\n    note: str | None = None\n"
        "    extra: typing.Any = None\n"
        '@task("shop:order", timeout=30)\nasync def order(payload: Order) -> None:\n    """Place it."""\n'
        '@task("shop:nightly", background=True, schedule="@daily")\ndef nightly(payload: None) -> None: ...\n'
    )
    result = await command("jobfn", "inspect")
    assert result.code == 0, result.output
    lines = [line.rstrip() for line in result.output.splitlines()]
    assert lines[0] == "shop:order  Place it."
    assert "  DNS name  shop-order" in lines
    assert "  timeout   30 s" in lines
    assert "    lines  list of Line, required" in lines
    assert "    note   string or null" in lines
    assert "    extra  anything" in lines
    assert "  timeout   none, in the background" in lines
    tasks = json.loads((await command("jobfn", "inspect", "functions.py", "--json")).output)
    assert [task["identifier"] for task in tasks] == ["shop:order", "shop:nightly"]
    assert tasks[0]["payload"]["properties"]["id"] == {"title": "Id", "type": "integer"}
    assert tasks[1]["schedule"]["rule"] == "@daily"
    assert (await command("jobfn", "inspect", "functions")).code == 0


@pytest.fixture
def builders(tmp_path: Path) -> Path:
    """A folder of fake builders that record their arguments."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("docker", "podman", "buildah"):
        program = folder / name
        program.write_text(
            f'#!/bin/sh\necho "{name} $*" >> "{tmp_path}/calls"\ntest "$1" != push || exit ${{PUSH:-0}}\n'
        )
        program.chmod(0o755)
    return folder


async def test_build_prints_and_runs_the_builder(builders: Path, command: Command, tmp_path: Path) -> None:
    assert (await command("jobfn", "init", "shop")).code == 0
    (tmp_path / "shop" / "wheels" / "jobfn-0.1.0-py3-none-any.whl").touch()
    build = ("jobfn", "build", "shop", "--tag", "shop:1", "--push")
    path = f"{builders}:/usr/bin:/bin"
    built = await command(*build, "--", "--build-arg", "A=b c", PATH=path)
    assert built.code == 0, built.output
    calls = ["docker build --tag shop:1 --build-arg A=b c shop", "docker push shop:1"]
    assert (tmp_path / "calls").read_text().splitlines() == calls
    printed = [line.replace("'", "") for line in built.output.splitlines() if line.startswith("$ ")]
    assert printed == [f"$ {line}" for line in calls]
    assert built.output.startswith("shop  Handle an order: replace this with your work.")
    failed = await command(*build, PATH=path, PUSH="9")
    assert failed.code == 1
    assert failed.output.splitlines()[-1].startswith("jobfn: docker push failed with exit code 9")


async def test_build_rejects_a_function_that_cannot_be_imported(
    builders: Path, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "functions.py").write_text("1 / 0\n")
    built = await command("jobfn", "build", "--tag", "s", PATH=f"{builders}:/usr/bin:/bin")
    assert (built.code, "ZeroDivisionError" in built.output) == (2, True)
    assert not (tmp_path / "calls").exists()


async def test_manifests_are_printed_or_written(command: Command, tmp_path: Path) -> None:
    for name, task in (("one", "a:b"), ("two", "c")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "helper.py").write_text(f"TASK = {task!r}\n")
        (tmp_path / name / "functions.py").write_text(
            "import helper\nfrom jobfn import task\n@task(helper.TASK)\ndef handle(payload: dict) -> None: ...\n"
        )
    line = ("jobfn", "manifests", "one", "two", "--image", "r.example.com/{function}:1", "--service-image", "jobs:1")
    printed = await command(*line)
    assert printed.code == 0, printed.output
    objects = list(yaml.safe_load_all(printed.output))
    images = [
        object_["spec"]["template"]["spec"]["containers"][0]["image"]
        for object_ in objects
        if object_["apiVersion"] == "serving.knative.dev/v1"
    ]
    assert images == ["r.example.com/a-b:1", "r.example.com/c:1"]
    written = await command(*line, "--output", "deploy")
    assert "wrote deploy/functions/function_a-b.yaml" in written.output
    paths = [path for path in (tmp_path / "deploy").rglob("*.yaml") if path.name != "kustomization.yaml"]
    assert len(paths) == len(objects)
    for path in paths:
        validate(yaml.safe_load(path.read_text()))
        assert yaml.safe_load(path.read_text()) in objects


async def test_notes_are_printed_to_standard_error(command: Command, tmp_path: Path) -> None:
    (tmp_path / "functions.py").write_text(ONE_TASK.format("slow").replace('"slow"', '"slow", background=True'))
    result = await command("jobfn", "manifests", ".", "--image", "i")
    assert result.code == 0
    notes = result.output.splitlines()[-2:]
    assert notes[0].startswith("note: slow has background tasks")
    assert notes[1].startswith("note: functions may not reach a callback server elsewhere")
