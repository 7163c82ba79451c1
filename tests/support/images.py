"""A store of images, an image, and its commands, run without a container engine."""

import json
import os
import shlex
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BASE = "localhost/debian-python"


@dataclass(frozen=True)
class Store:
    """Images of one test run.

    Attributes:
        folder: Folder of the store.
        env: Environment variables for buildah.
        wheelhouse: Folder of wheels for pip.
        run: Runs a command and returns its output."""

    folder: Path
    env: dict[str, str]
    wheelhouse: Path
    run: Callable[..., str]

    @property
    def options(self) -> list[str]:
        """Build options: no pulls, limits that a chroot can set, wheels from the folder."""
        return [
            *("--pull=never", "--ulimit", "nofile=20000:20000", "--ulimit", "nproc=90000:90000"),
            *("--volume", f"{self.wheelhouse}:/wheelhouse:ro", "--build-arg", f"BASE_IMAGE={BASE}"),
            *("--build-arg", "PIP_NO_INDEX=1", "--build-arg", "PIP_FIND_LINKS=/wheelhouse"),
        ]

    def buildah(self, *arguments: str) -> str:
        """Run buildah on this store."""
        return self.run("buildah", *arguments, env=self.env)

    def build(self, context: Path, *arguments: str) -> str:
        """Build an image and return the output."""
        return self.buildah("build", "--format", "docker", *self.options, *arguments, str(context))

    def image(self, tag: str, build_output: str, *, service_name: str | None = None) -> "Image":
        """Mount a built image."""
        container = self.buildah("from", "--pull=never", tag).strip()
        root = Path(self.buildah("mount", container).strip())
        return Image(self, tag, root, build_output, service_name)


@dataclass(frozen=True)
class Image:
    """A built image.

    Attributes:
        store: Its store.
        tag: Its name.
        root: Where its file system is mounted.
        build_output: Output of its build.
        service_name: Name of its Knative service, if there is a manifest."""

    store: Store
    tag: str
    root: Path
    build_output: str
    service_name: str | None = None

    @cached_property
    def config(self) -> dict[str, Any]:
        """Docker's config of the image."""
        inspected: dict[str, Any] = json.loads(self.store.buildah("inspect", "--type", "image", self.tag))["Docker"]
        return dict(inspected["config"])

    @cached_property
    def own_layers(self) -> list[Path]:
        """Layers above the base, each an uncompressed tar file."""
        copies = {
            tag: self.store.folder / f"copy-{index}-{tag.rpartition('/')[2]}"
            for index, tag in enumerate((BASE, self.tag))
        }
        layers = {}
        for tag, copy in copies.items():
            if not copy.exists():
                self.store.buildah("push", "--quiet", "--disable-compression", tag, f"dir:{copy}")
            manifest = json.loads((copy / "manifest.json").read_text())
            layers[tag] = [copy / layer["digest"].partition(":")[2] for layer in manifest["layers"]]
        base_layers = [layer.name for layer in layers[BASE]]
        assert [layer.name for layer in layers[self.tag]][: len(base_layers)] == base_layers
        return layers[self.tag][len(base_layers) :]

    @property
    def own_files(self) -> list[str]:
        """Files in the layers above the base."""
        names = []
        for layer in self.own_layers:
            with tarfile.open(layer) as archive:
                names += [member.name for member in archive if not member.isdir()]
        return names

    def command(self, *arguments: str, user: str | None = None, as_init: bool = False, **env: str) -> list[str]:
        """Return a command line that runs in the image's read-only file system.

        Args:
            arguments: The command. Default: the image's own.
            user: Default: the image's.
            as_init: Run it as process 1 of a new process namespace.
            env: More environment variables."""
        config = self.config
        values = dict(pair.split("=", 1) for pair in config["Env"]) | env
        words = [
            *("chroot", f"--userspec={user or config['User']}", str(self.root), "/usr/bin/env", "--ignore-environment"),
            *(f"--chdir={config['WorkingDir']}", *(f"{name}={value}" for name, value in values.items())),
            *(arguments or (*config["Entrypoint"], *(config.get("Cmd") or ()))),
        ]
        root = shlex.quote(str(self.root))
        script = f"mount --bind {root} {root} && mount -o remount,ro,bind {root} && exec {shlex.join(words)}"
        namespaces = ["--mount", *(["--pid", "--fork", "--kill-child"] if as_init else [])]
        return ["unshare", *namespaces, "/bin/sh", "-c", f"PATH={os.defpath}:/usr/sbin:/sbin; {script}"]

    @property
    def health_command(self) -> list[str]:
        """Command of HEALTHCHECK."""
        kind, *words = self.config["Healthcheck"]["Test"]
        assert kind == "CMD"
        return list(words)
