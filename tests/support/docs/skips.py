"""Commands of the documentation that tests cannot run, with the reason and a check of their arguments.

A command that is neither run by ``page.py`` nor listed here is an error.
"""

import itertools
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import yaml

from support.docs.blocks import ROOT

#: Checks the words of a command in its working directory.
Check = Callable[[list[str], Path], None]
#: Packages that pages install beside jobfn.
OTHER_PACKAGES = {"pytest", "uv", "fastapi", "django", "psycopg[binary]", "sqlalchemy[asyncio]"}


def _check_install(words: list[str], folder: Path) -> None:
    """Check that the projects exist and have the extras."""
    for word in words[2:]:
        if word in OTHER_PACKAGES:
            continue
        requirement = re.fullmatch(r"(?P<path>[\w./-]*)\[(?P<extras>[\w,-]+)\]( @ .*)?", word)
        if requirement is None:
            assert word in {"-e", "wheels", "."} or word.startswith("--"), f"unexpected {word!r}"
            continue
        is_jobfn = requirement["path"] == "jobfn"
        project = tomllib.loads(((ROOT if is_jobfn else folder / requirement["path"]) / "pyproject.toml").read_text())
        extras = project["project"]["optional-dependencies"]
        assert set(requirement["extras"].split(",")) <= extras.keys(), f"{word}: the extra does not exist"


def _check_make(words: list[str], _folder: Path) -> None:
    """Check that the Makefile has the targets."""
    for target in words[1:]:
        assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target


def _check_docker(words: list[str], _folder: Path) -> None:
    """Check that the Dockerfile has the stage and the arguments, and that a pushed image has a registry."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    options = dict(itertools.pairwise(words))
    if words[1] == "push":
        assert re.fullmatch(r"[\w.-]+\.[\w-]+/[\w./-]+:[\w.-]+", words[2])
        return
    assert words[1] == "build"
    assert words[-1] == "."
    assert set(words) & {"--tag", "--target", "--build-arg"}
    if "--target" in options:
        assert re.search(rf"^FROM .* AS {options['--target']}$", dockerfile, re.MULTILINE | re.IGNORECASE)
    if "--build-arg" in options:
        name, _, value = options["--build-arg"].partition("=")
        assert re.search(rf"^ARG {name}\b", dockerfile, re.MULTILINE)
        assert name != "FUNCTION" or (ROOT / value / "functions.py").is_file()


def _check_kubectl(words: list[str], folder: Path) -> None:
    """Check that applied manifests can be built and parsed, and that manifests use the secrets and their keys."""
    positional = {word for word in words if not word.startswith("-")}
    if "apply" in positional:
        assert list(yaml.safe_load_all(_applied_manifests(dict(itertools.pairwise(words)), folder)))
    elif "secret" in positional:
        manifests = "".join(file.read_text() for file in (folder / "deploy" / "base").rglob("*.yaml"))
        secret = words[words.index("generic") + 1]
        assert f"name: {secret}\n" in manifests
        for word in words:
            if word.startswith("--from-literal="):
                assert re.fullmatch("--from-literal=[^=]+=.+", word, re.DOTALL)
    else:
        assert positional & {"namespace", "get", "logs", "rollout"}, f"no check for {shlex.join(words)}"


def _applied_manifests(options: dict[str, str], folder: Path) -> str:
    if "--kustomize" not in options:
        return (folder / options["--filename"]).read_text()
    base = folder / options["--kustomize"]
    assert (base / "kustomization.yaml").is_file()
    if not shutil.which("kustomize"):
        return "".join(file.read_text() for file in base.rglob("*.yaml"))
    build = subprocess.run(["kustomize", "build", str(base)], capture_output=True, text=True, check=True)  # noqa: S607
    return build.stdout


def _check_lock(words: list[str], folder: Path) -> None:
    """Check that uv has the options and that the file exists."""
    uv = str(Path(sys.executable).with_name("uv"))
    help_text = subprocess.run([uv, *words[1:3], "--help"], capture_output=True, text=True, check=True).stdout
    assert all(word in help_text for word in words if word.startswith("--"))
    assert (folder / words[3]).is_file()


def _check_input_file(words: list[str], folder: Path) -> None:
    """Check that the file exists that another tool reads."""
    assert (folder / words[2]).is_file()


def _check_mcp(words: list[str], _folder: Path) -> None:
    """Check that the command of the server has the options."""
    jobfn = str(Path(sys.executable).with_name("jobfn"))
    server = words[words.index("--") + 1 :]
    assert server[:2] == ["jobfn", "mcp"]
    help_text = subprocess.run([jobfn, "mcp", "--help"], capture_output=True, text=True, check=True).stdout
    assert all(word in help_text for word in server[2:])


def _no_check(_words: list[str], _folder: Path) -> None:
    pass


#: First words of a command: why it is not run, and the check of its arguments.
SKIPPED_COMMANDS: dict[str, tuple[str, Check]] = {
    "python3 -m venv": ("a new environment has no jobfn; covered by make test-install", _no_check),
    "pip install": ("uses the package index; covered by make test-install", _check_install),
    "uv pip compile": ("uses the package index; covered by make lock", _check_lock),
    "make": ("takes minutes; CI runs it, or people do", _check_make),
    "docker": ("needs root and a base image; covered by make image", _check_docker),
    "kubectl": ("needs a cluster", _check_kubectl),
    "claude mcp add": ("an assistant is not installed", _check_mcp),
    "npx": ("uses npm's registry", _check_input_file),
    "jobfn jobs show 42": ("needs a run that waits for days", _no_check),
    "py-spy": ("comes with make bench and needs the right to trace", _no_check),
}


def check_skipped_command(words: list[str], folder: Path) -> bool:
    """Check a command that is not run. Return False if the command is not in the list.

    Raises:
        AssertionError: Its arguments are wrong.
    """
    for prefix, (_reason, check) in SKIPPED_COMMANDS.items():
        if words[: len(prefix.split())] == prefix.split():
            check(words, folder)
            return True
    return False
