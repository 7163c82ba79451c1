"""What the image tests speak of: a store of images, an image, and its command as it is run without an engine."""

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
        folder: Where they lie.
        env: What buildah has to be told.
        wheelhouse: Where pip finds wheels while an image is built.
        run: Runs a command and returns what it said.
    """

    folder: Path
    env: dict[str, str]
    wheelhouse: Path
    run: Callable[..., str]

    @property
    def options(self) -> list[str]:
        """For every build: nothing is pulled, and limits that a chroot can set."""
        return [
            *("--pull=never", "--ulimit", "nofile=20000:20000", "--ulimit", "nproc=90000:90000"),
            *("--volume", f"{self.wheelhouse}:/wheelhouse:ro", "--build-arg", f"BASE_IMAGE={BASE}"),
            *("--build-arg", "PIP_NO_INDEX=1", "--build-arg", "PIP_FIND_LINKS=/wheelhouse"),
        ]

    def buildah(self, *arguments: str) -> str:
        """Run buildah on this store."""
        return self.run("buildah", *arguments, env=self.env)

    def build(self, context: Path, *arguments: str) -> str:
        """Build an image."""
        return self.buildah("build", "--format", "docker", *self.options, *arguments, str(context))

    def image(self, tag: str, said: str, *, service_name: str | None = None) -> "Image":
        """A built image, mounted."""
        container = self.buildah("from", "--pull=never", tag).strip()
        root = Path(self.buildah("mount", container).strip())
        return Image(self, tag, root, said, service_name)


@dataclass(frozen=True)
class Image:
    """A built image.

    Attributes:
        store: Where it is.
        tag: What it is called.
        root: Where its file system is mounted.
        said: What its build said.
        service_name: What the manifest of its project calls the Knative service, where it has one.
    """

    store: Store
    tag: str
    root: Path
    said: str
    service_name: str | None = None

    @cached_property
    def config(self) -> dict[str, Any]:
        """What Docker calls the image's config."""
        found: dict[str, Any] = json.loads(self.store.buildah("inspect", "--type", "image", self.tag))["Docker"]
        return dict(found["config"])

    @cached_property
    def own_layers(self) -> list[Path]:
        """The layers that it has over its base, each an uncompressed tar file."""
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
        of_base = [layer.name for layer in layers[BASE]]
        assert [layer.name for layer in layers[self.tag]][: len(of_base)] == of_base
        return layers[self.tag][len(of_base) :]

    @property
    def own_files(self) -> list[str]:
        """What its layers hold over its base, folders left out."""
        names = []
        for layer in self.own_layers:
            with tarfile.open(layer) as archive:
                names += [member.name for member in archive if not member.isdir()]
        return names

    def command(self, *arguments: str, user: str | None = None, alone: bool = False, **env: str) -> list[str]:
        """A command line that runs in the image's file system, which is read-only, as its user.

        Args:
            arguments: What to run. Default: the image's own command.
            user: Instead of the image's.
            alone: In a process namespace of its own, as process 1.
            env: On top of the image's environment.
        """
        config = self.config
        values = dict(pair.split("=", 1) for pair in config["Env"]) | env
        words = [
            *("chroot", f"--userspec={user or config['User']}", str(self.root), "/usr/bin/env", "--ignore-environment"),
            *(f"--chdir={config['WorkingDir']}", *(f"{name}={value}" for name, value in values.items())),
            *(arguments or (*config["Entrypoint"], *(config.get("Cmd") or ()))),
        ]
        root = shlex.quote(str(self.root))
        script = f"mount --bind {root} {root} && mount -o remount,ro,bind {root} && exec {shlex.join(words)}"
        namespaces = ["--mount", *(["--pid", "--fork", "--kill-child"] if alone else [])]
        return ["unshare", *namespaces, "/bin/sh", "-c", f"PATH={os.defpath}:/usr/sbin:/sbin; {script}"]

    @property
    def health_command(self) -> list[str]:
        """What HEALTHCHECK runs."""
        kind, *words = self.config["Healthcheck"]["Test"]
        assert kind == "CMD"
        return list(words)
