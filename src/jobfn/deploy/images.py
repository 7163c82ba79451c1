"""Which command builds an image here: docker, podman or buildah, whichever is installed. Runs nothing itself.

``cli/build.py`` shows the command and runs it.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from jobfn.errors import ConfigurationError

#: How the template's Dockerfile asks for jobfn's own wheel, where the lock does not name it.
_WHEEL_MARKER = "wheels/jobfn-"


class Builder(StrEnum):
    """What can build an image from a Dockerfile, in the order in which they are looked for."""

    DOCKER = "docker"
    PODMAN = "podman"
    BUILDAH = "buildah"


@dataclass(frozen=True)
class ImageCommands:
    """The commands for one image.

    Attributes:
        build: Builds it.
        push: Sends it to its registry.
    """

    build: tuple[str, ...]
    push: tuple[str, ...]


def find_builder(wanted: Builder | None = None) -> Builder:
    """The one that is asked for, else the first that is installed.

    Raises:
        ConfigurationError: It is not there, or none is; says what to install.
    """
    for builder in [wanted] if wanted is not None else list(Builder):
        if shutil.which(builder):
            return builder
    missing = wanted or "docker, podman or buildah"
    raise ConfigurationError(
        f"{missing} is not installed, and builds the image: install one of them, "
        "for instance with `apt-get install buildah`, `dnf install podman`, or Docker's own packages"
    )


def commands(builder: Builder, folder: Path, *, tag: str, extra: Sequence[str] = ()) -> ImageCommands:
    """What to run.

    Args:
        builder: With what.
        folder: Where the Dockerfile lies, and all that goes into the image.
        tag: The image's name.
        extra: Further arguments for the build, before the folder.
    """
    # an OCI image has no HEALTHCHECK: buildah and podman drop it unless they are told to write Docker's format
    form = () if builder is Builder.DOCKER else ("--format", "docker")
    return ImageCommands(
        build=(builder.value, "build", *form, "--tag", tag, *extra, str(folder)), push=(builder.value, "push", tag)
    )


def check_context(folder: Path) -> None:
    """See that the folder has what its Dockerfile takes.

    Raises:
        ConfigurationError: Something is missing; says how to get it.
    """
    dockerfile = folder / "Dockerfile"
    if not dockerfile.is_file():
        raise ConfigurationError(f"no Dockerfile in {folder}: `jobfn init` makes a project that has one")
    if _WHEEL_MARKER not in dockerfile.read_text(encoding="utf-8"):
        return  # one of the user's own
    lock = folder / "requirements.lock"
    if not lock.is_file():
        raise ConfigurationError(f"no {lock}, which names what the image gets: README.md says how to make it")
    locked = any(line.startswith("jobfn==") for line in lock.read_text(encoding="utf-8").splitlines())
    if not locked and not list((folder / "wheels").glob("jobfn-*.whl")):
        raise ConfigurationError(
            f"no jobfn wheel in {folder / 'wheels'}, and none in {lock.name}: put it there "
            "(`make dist` in jobfn's repository makes dist/jobfn-*.whl)"
        )
