"""Commands that build and push an image with docker, podman or buildah. ``cli/images.py`` runs them."""

import shutil
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from jobfn.errors import ConfigurationError
from jobfn.install import wheel_command

#: How the template's Dockerfile refers to jobfn's wheel, if the lock does not have it.
_WHEEL_MARKER = "wheels/jobfn-"


class Builder(StrEnum):
    """An image builder, in order of preference."""

    DOCKER = "docker"
    PODMAN = "podman"
    BUILDAH = "buildah"


def find_builder(builder: Builder | None = None) -> Builder:
    """Return the requested builder, by default the first one that is installed."""
    for candidate in [builder] if builder is not None else list(Builder):
        if shutil.which(candidate):
            return candidate
    raise ConfigurationError(
        f"{builder or 'docker, podman or buildah'} is not installed, but needed to build the image: install one, "
        "for instance with `apt-get install buildah`, `dnf install podman`, or Docker's own packages"
    )


def image_commands(
    builder: Builder, folder: Path, *, tag: str, extra: Sequence[str] = ()
) -> tuple[list[str], list[str]]:
    """Return the commands that build and push an image."""
    # The OCI format has no HEALTHCHECK: podman and buildah drop it unless they write Docker's format.
    format_options = () if builder is Builder.DOCKER else ("--format", "docker")
    build = [builder.value, "build", *format_options, "--tag", tag, *extra, str(folder)]
    return build, [builder.value, "push", tag]


def check_context(folder: Path) -> None:
    """Check that a folder has the files that its Dockerfile needs.

    Raises:
        ConfigurationError: A file is missing.
    """
    dockerfile = folder / "Dockerfile"
    if not dockerfile.is_file():
        raise ConfigurationError(f"{folder} has no Dockerfile: create a project that has one with `jobfn init`")
    if _WHEEL_MARKER not in dockerfile.read_text(encoding="utf-8"):
        return  # not the template's Dockerfile
    lock = folder / "requirements.lock"
    if not lock.is_file():
        raise ConfigurationError(f"{lock} is missing, which pins the packages of the image: see README.md")
    is_locked = any(line.startswith("jobfn==") for line in lock.read_text(encoding="utf-8").splitlines())
    if not is_locked and not list((folder / "wheels").glob("jobfn-*.whl")):
        raise ConfigurationError(
            f"jobfn's wheel is missing in {folder / 'wheels'}, and {lock.name} does not have it: run "
            f"{wheel_command(folder / 'wheels')}"
        )
