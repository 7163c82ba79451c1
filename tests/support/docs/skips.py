"""What the documentation shows and no test can run: the programs, why not, and what is looked at instead.

The one list of exceptions. A command that is neither run by ``page.py`` nor named here is an error.
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

#: Looks at a command's words, in the folder where it is typed.
Check = Callable[[list[str], Path], None]


def _installs(words: list[str], folder: Path) -> None:
    """Each project and file that is named is there, and has the extras that are asked for."""
    for word in words[2:]:
        named = re.fullmatch(r"(?P<where>[\w./-]*)\[(?P<extras>[\w,-]+)\]", word)
        if named is None:
            assert word in {"-e", "pytest", "wheels/*.whl", "."} or word.startswith("--"), f"nobody knows {word!r}"
            continue
        where = ROOT if named["where"] in {"jobfn", "/path/to/this/repository"} else folder / named["where"]
        project = tomllib.loads((where / "pyproject.toml").read_text())
        extras = project["project"]["optional-dependencies"]
        assert set(named["extras"].split(",")) <= extras.keys(), f"{word}: there is no such extra"


def _makes(words: list[str], _folder: Path) -> None:
    """The target is one of the Makefile's."""
    for target in words[1:]:
        assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target


def _builds_an_image(words: list[str], _folder: Path) -> None:
    """The Dockerfile has the stage and the arguments that are named; what is pushed has a name to go to."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    named = dict(itertools.pairwise(words))
    if words[1] == "push":
        assert re.fullmatch(r"[\w.-]+\.[\w-]+/[\w./-]+:[\w.-]+", words[2])
        return
    assert words[1] == "build"
    assert words[-1] == "."
    assert set(words) & {"--tag", "--target", "--build-arg"}
    if "--target" in named:
        assert re.search(rf"^FROM .* AS {named['--target']}$", dockerfile, re.MULTILINE | re.IGNORECASE)
    if "--build-arg" in named:
        name, _, value = named["--build-arg"].partition("=")
        assert re.search(rf"^ARG {name}\b", dockerfile, re.MULTILINE)
        assert name != "FUNCTION" or (ROOT / value / "functions.py").is_file()


def _asks_a_cluster(words: list[str], folder: Path) -> None:
    """What is applied can be built and read; secrets are those, with those keys, that the manifests refer to."""
    named = {word for word in words if not word.startswith("-")}
    options = dict(itertools.pairwise(words))
    if "apply" in named:
        assert list(yaml.safe_load_all(_applied(options, folder)))
    elif "secret" in named:
        manifests = "".join(file.read_text() for file in (folder / "deploy" / "base").rglob("*.yaml"))
        assert f"name: {words[words.index('generic') + 1]}\n" in manifests
        for word in words:
            if word.startswith("--from-literal="):
                key, _, value = word.removeprefix("--from-literal=").partition("=")
                assert value
                assert key in manifests or f"name: {words[words.index('generic') + 1]}" in manifests
    else:
        assert named & {"namespace", "get", "logs", "rollout"}, f"nobody looks at {shlex.join(words)}"


def _applied(options: dict[str, str], folder: Path) -> str:
    if "--kustomize" not in options:
        return (folder / options["--filename"]).read_text()
    base = folder / options["--kustomize"]
    assert (base / "kustomization.yaml").is_file()
    if not shutil.which("kustomize"):
        return "".join(file.read_text() for file in base.rglob("*.yaml"))
    built = subprocess.run(["kustomize", "build", str(base)], capture_output=True, text=True, check=True)  # noqa: S607
    return built.stdout


def _compiles_a_lock(words: list[str], folder: Path) -> None:
    """The options are uv's, the file is there."""
    uv = str(Path(sys.executable).with_name("uv"))
    told = subprocess.run([uv, *words[1:3], "--help"], capture_output=True, text=True, check=True).stdout
    assert all(word in told for word in words if word.startswith("--"))
    assert (folder / words[3]).is_file()


def _says_what_it_reads(words: list[str], folder: Path) -> None:
    """The file that another tool reads is there."""
    assert (folder / words[2]).is_file()


def _nothing(_words: list[str], _folder: Path) -> None:
    """There is nothing to look at."""


#: How a command begins: why it is not run, and what is looked at instead.
ELSEWHERE: dict[str, tuple[str, Check]] = {
    "python3 -m venv": ("an empty environment has no jobfn: `make test-install` fills one", _nothing),
    "pip install": ("asks the package index: `make test-install` does it", _installs),
    "uv pip compile": ("asks the package index: `make lock` does it", _compiles_a_lock),
    "make": ("takes minutes, and is what CI runs or people do by hand", _makes),
    "docker": ("images want root and a base image: `make image` builds and runs these", _builds_an_image),
    "kubectl": ("there is no cluster: what is applied is built and read", _asks_a_cluster),
    "npx": ("asks npm's registry: the files that it reads are there", _says_what_it_reads),
    "py-spy": ("comes with `make bench`, and wants a right that containers do not have", _nothing),
}


def checked_otherwise(words: list[str], folder: Path) -> bool:
    """Whether a command is on the list; if so, it has been looked at.

    Raises:
        AssertionError: What it names is not there.
    """
    for begins, (_reason, check) in ELSEWHERE.items():
        if words[: len(begins.split())] == begins.split():
            check(words, folder)
            return True
    return False
