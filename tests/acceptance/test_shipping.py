"""init, check, build and manifests as a user runs them."""

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


def files_in(folder: Path) -> list[str]:
    """The files below a folder, bytecode left out."""
    return sorted(str(path) for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")


@pytest.mark.parametrize("verb", ["init", "check", "build", "manifests"])
async def test_every_verb_has_help_with_an_example(verb: str, command: Command) -> None:
    """--help exits with 0 and shows a line to copy."""
    shown = await command("jobfn", verb, "--help")
    assert shown.code == 0
    assert f"example: jobfn {verb}" in shown.output


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("init", "Missing argument 'FOLDER'"),
        ("init ---", "No such option"),
        ("init +++", "makes no project name"),
        ("init fine --task no\tgood", "the task 'no\\tgood': use letters"),
        (f"init fine --task {'x' * 127}", "at most 126 of them"),
        ('init fine --description "', "one line without double quotes"),
        ("init fine --image UPPER CASE", "Got unexpected extra argument"),
        ("init fine --image :1", "the image ':1': give a name"),
        ("init file/below", "file/below cannot be written to"),
        ("check nowhere.py", "no file nowhere.py"),
        ("check empty", "no file empty/functions.py: give the Python file that holds your tasks, or a folder"),
        ("check broken.py", "broken.py:1: SyntaxError"),
        ("check no_task.py", "holds no task"),
        ("check other_app.py:app", "is not an app of create_app"),
        ("check dies.py", "dies.py could not be imported: it ended with exit code 7"),
        ("build", "Missing option '--tag'"),
        ("build own near --tag t", "'near' is one path too many"),
        ("build empty --tag t", "no Dockerfile in empty"),
        ("build no_lock --tag t", "no no_lock/requirements.lock"),
        ("build no_wheel --tag t", "no jobfn wheel in no_wheel/wheels"),
        ("build own --tag t --with podman", "podman is not installed, and builds the image"),
        ("build own --tag t", "docker, podman or buildah is not installed, and builds the image: install one"),
        ("build own --tag t --with kaniko", "Invalid value for '--with'"),
        ("manifests", "nothing to write: name a folder"),
        ("manifests empty --image i", "no file empty/functions.py"),
        ("manifests own", "--image is missing"),
        ("manifests own --image i --min-scale 3 --max-scale 2", "--min-scale 3 is more than --max-scale 2"),
        ("manifests own same --image i", "the task 'email:send' is at"),
        ("manifests own near --image i", "the tasks 'email:send' and 'email.send' have the same DNS name"),
    ],
)
async def test_wrong_use_is_one_clear_line(line: str, message: str, command: Command, tmp_path: Path) -> None:
    """Exit code 2, one line that says what is wrong and what to do, nothing made."""
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
        "same/functions.py": ONE_TASK.format("email:send"),
        "near/functions.py": ONE_TASK.format("email.send"),
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    before = files_in(tmp_path)
    ended = await command("jobfn", *line.split(" "), PATH="/nowhere")
    last = ended.output.splitlines()[-1]
    assert message in last
    assert last.startswith("jobfn: ")
    assert "Traceback" not in ended.output
    assert ended.code == 2
    assert files_in(tmp_path) == before


async def test_a_project_is_made_and_never_overwritten(command: Command, tmp_path: Path) -> None:
    """Without a terminal nothing is asked; every file has the project's names; a second time nothing is touched."""
    made = await command("jobfn", "init", "My Function", "--task", "email:welcome", "--description", "Says hello.")
    assert made.code == 0, made.output
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


async def test_a_folder_with_other_files_is_fine(command: Command, tmp_path: Path) -> None:
    """A repository that was just made, for instance."""
    (tmp_path / "orders" / ".git").mkdir(parents=True)
    (tmp_path / "orders" / "LICENSE").write_text("mine")
    made = await command("jobfn", "init", "orders")
    assert made.code == 0, made.output
    assert "made orders/functions.py" in made.output
    assert "read on in orders/README.md" in made.output


async def test_questions_in_a_terminal(tmp_path: Path) -> None:
    """What no option says is asked, with a default that Enter takes."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("jobfn")), "init", "orders", "--description", "Handles orders."),
        cwd=tmp_path,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    os.write(ours, b"order:place\n\n")
    said = b""
    while b"read on" not in said:
        said += await asyncio.to_thread(os.read, ours, 4096)
    assert await process.wait() == 0
    os.close(ours)
    assert b"Task identifier [orders]: " in said
    assert b"Image [registry.example.com/orders:latest]: " in said
    assert b"Description [" not in said
    assert '@task("order:place"' in (tmp_path / "orders" / "functions.py").read_text()


async def test_what_a_function_holds(command: Command, tmp_path: Path) -> None:
    """Tasks, their limits and names, and what they take; what the module prints is not in the way."""
    (tmp_path / "functions.py").write_text(
        "import typing\nimport pydantic\nfrom jobfn import task\nprint('hello from the module')\n"
        "class Line(pydantic.BaseModel):\n    sku: str\n"
        "class Order(pydantic.BaseModel):\n    id: int\n    lines: list[Line]\n    note: str | None = None\n"
        "    extra: typing.Any = None\n"
        '@task("shop:order", timeout=30)\nasync def order(payload: Order) -> None:\n    """Place it."""\n'
        '@task("shop:nightly", background=True, schedule="@daily")\ndef nightly(payload: None) -> None: ...\n'
    )
    shown = await command("jobfn", "check")
    assert shown.code == 0, shown.output
    lines = [line.rstrip() for line in shown.output.splitlines()]
    assert lines[0] == "shop:order  Place it."
    assert "  DNS name  shop-order" in lines
    assert "  timeout   30 s" in lines
    assert "    lines  list of Line, required" in lines
    assert "    note   string or null" in lines
    assert "    extra  anything" in lines
    assert "  timeout   none, in the background" in lines
    listed = json.loads((await command("jobfn", "check", "functions.py", "--json")).output)
    assert [task["identifier"] for task in listed] == ["shop:order", "shop:nightly"]
    assert listed[0]["payload"]["properties"]["id"] == {"title": "Id", "type": "integer"}
    assert listed[1]["schedule"]["rule"] == "@daily"
    assert (await command("jobfn", "check", "functions")).code == 0


@pytest.fixture
def builders(tmp_path: Path) -> Path:
    """A folder of programs called like builders, which write down how they were called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("docker", "podman", "buildah"):
        program = folder / name
        program.write_text(
            f'#!/bin/sh\necho "{name} $*" >> "{tmp_path}/called"\ntest "$1" != push || exit ${{PUSH:-0}}\n'
        )
        program.chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("gone", "options", "called"),
    [
        ([], [], ["docker build --tag shop:1 shop"]),
        (["docker"], [], ["podman build --format docker --tag shop:1 shop"]),
        (["docker", "podman"], ["--push"], ["buildah build --format docker --tag shop:1 shop", "buildah push shop:1"]),
        ([], ["--with", "podman"], ["podman build --format docker --tag shop:1 shop"]),
        ([], ["--", "--build-arg", "A=b c"], ["docker build --tag shop:1 --build-arg A=b c shop"]),
    ],
)
async def test_an_image_is_built_with_what_is_there(
    gone: list[str], options: list[str], called: list[str], builders: Path, command: Command, tmp_path: Path
) -> None:
    """docker, podman, buildah, in this order or as asked; the tasks are listed, then the command is shown, then run."""
    for name in gone:
        (builders / name).unlink()
    assert (await command("jobfn", "init", "shop")).code == 0
    (tmp_path / "shop" / "wheels" / "jobfn-0.1.0-py3-none-any.whl").touch()
    built = await command("jobfn", "build", "shop", "--tag", "shop:1", *options, PATH=f"{builders}:/usr/bin:/bin")
    assert built.code == 0, built.output
    assert (tmp_path / "called").read_text().splitlines() == called
    shown = [line.replace("'", "") for line in built.output.splitlines() if line.startswith("$ ")]
    assert shown == [f"$ {line}" for line in called]
    assert built.output.index("shop  Put your work here.") < built.output.index("$ ")


async def test_a_builder_that_fails_is_the_command_s_failure(builders: Path, command: Command, tmp_path: Path) -> None:
    """Exit code 1, and which step it was."""
    assert (await command("jobfn", "init", "shop")).code == 0
    (tmp_path / "shop" / "wheels" / "jobfn-0.1.0-py3-none-any.whl").touch()
    path = f"{builders}:/usr/bin:/bin"
    built = await command("jobfn", "build", "shop", "--tag", "s", "--push", PATH=path, PUSH="9")
    assert built.code == 1
    assert built.output.splitlines()[-1].startswith("jobfn: docker push ended with exit code 9")


async def test_nothing_is_built_of_a_function_that_does_not_load(
    builders: Path, command: Command, tmp_path: Path
) -> None:
    """`jobfn check` comes first."""
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "functions.py").write_text("1 / 0\n")
    built = await command("jobfn", "build", "--tag", "s", PATH=f"{builders}:/usr/bin:/bin")
    assert (built.code, "ZeroDivisionError" in built.output) == (2, True)
    assert not (tmp_path / "called").exists()


async def test_manifests_as_a_stream_and_as_files(command: Command, tmp_path: Path) -> None:
    """The same objects, printed or written; {function} in the image is the service's name; modules do not mix."""
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
        found["spec"]["template"]["spec"]["containers"][0]["image"]
        for found in objects
        if found["apiVersion"] == "serving.knative.dev/v1"
    ]
    assert images == ["r.example.com/a-b:1", "r.example.com/c:1"]
    written = await command(*line, "--output", "deploy")
    assert "wrote deploy/functions/function_a-b.yaml" in written.output
    found = [path for path in (tmp_path / "deploy").rglob("*.yaml") if path.name != "kustomization.yaml"]
    assert len(found) == len(objects)
    for path in found:
        validate(yaml.safe_load(path.read_text()))
        assert yaml.safe_load(path.read_text()) in objects
    (tmp_path / "deploy" / "service" / "config.yaml").write_text("mine")
    refused = await command(*line, "--output", "deploy")
    assert (refused.code, "other contents in service/config.yaml" in refused.output) == (2, True)
    assert (await command(*line, "--output", "deploy", "--force")).code == 0


async def test_manifests_say_what_has_to_be_known(command: Command, tmp_path: Path) -> None:
    """Notes go to standard error, so that the stream stays YAML."""
    (tmp_path / "functions.py").write_text(ONE_TASK.format("slow").replace('"slow"', '"slow", background=True'))
    said = await command("jobfn", "manifests", ".", "--image", "i")
    assert said.code == 0
    assert said.output.splitlines()[-1].startswith("note: slow has background tasks")
