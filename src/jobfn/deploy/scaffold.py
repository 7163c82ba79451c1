"""``jobfn init``: a project of one's own, from the template in ``templates/function``. Nothing is ever overwritten.

The template is a project that works as it stands; its names are replaced by the user's, and that is all there is to it.
"""

import hashlib
import importlib.metadata
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from jobfn.errors import ConfigurationError
from jobfn.wire import MAX_TASK_IDENTIFIER_CHARACTERS
from jobfn.wire.dns_names import dns_name

#: In a wheel beside the modules; in a checkout of jobfn at its root.
_PLACES = (
    Path(__file__).parent.parent / "templates" / "function",
    Path(__file__).parents[3] / "templates" / "function",
)
_EXCLUDED = frozenset({"__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".venv", ".jobfn"})
_PROJECT_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
#: What a quoted word in Python, YAML, TOML and a shell can hold as it is.
_TASK = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]*")
_IMAGE = re.compile(r"[a-z0-9][A-Za-z0-9_.:/@-]*")


@dataclass(frozen=True)
class Project:
    """What is asked about a new project.

    Attributes:
        name: Of the project: lower case letters, digits and hyphens.
        task: The identifier of its first task.
        description: One line.
        image: What its container image is called.
    """

    name: str
    task: str
    description: str
    image: str

    @classmethod
    def named_after(
        cls, folder: Path, *, task: str | None = None, description: str | None = None, image: str | None = None
    ) -> "Project":
        """The project that a folder's name suggests, with what is given in place of the defaults.

        Raises:
            ConfigurationError: A name cannot be used; says what can.
        """
        name = re.sub("[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")
        if not _PROJECT_NAME.fullmatch(name):
            raise ConfigurationError(
                f"{folder.resolve().name!r} makes no project name: use up to 63 letters, digits and hyphens"
            )
        return cls(
            name=name,
            task=_checked_task(task or name.replace("-", "_")),
            description=_checked_line(description or "A job function."),
            image=_checked_image(image or f"registry.example.com/{name}:latest"),
        )

    def filled_into(self, text: str) -> str:
        """A file of the template with this project's names."""
        for placeholder, value in (
            ("template-project", self.name),
            ("template-description", self.description),
            ("template-image", self.image),
            ("template_task", self.task),
            ("template-task", dns_name(self.task)),
        ):
            text = text.replace(placeholder, value)
        return text


def create(project: Project, folder: Path) -> list[Path]:
    """Write the project's files; returns them, relative to the folder.

    Raises:
        ConfigurationError: One of them is there already, or the folder cannot be written to; then none is written.
    """
    texts = {
        path.relative_to(template()): project.filled_into(path.read_text(encoding="utf-8"))
        for path in _template_files()
    }
    there = sorted(str(path) for path in texts if (folder / path).exists())
    if there:
        raise ConfigurationError(f"{folder} already has {', '.join(there)}: nothing was written; name another folder")
    try:
        for path, text in texts.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            with (folder / path).open("x", encoding="utf-8") as file:  # "x": also not what came into being just now
                file.write(text)
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be written to: {error}") from error
    return sorted(texts)


def installed_from() -> str | None:
    """What pip has noted of where this jobfn came from: ``direct_url.json`` (PEP 610). None: from an index."""
    return importlib.metadata.distribution("jobfn").read_text("direct_url.json")


def add_own_wheel(folder: Path, origin: str | None) -> Path | None:
    """Copy the wheel that this jobfn was installed from into the project's ``wheels``, where it can still be had.

    Args:
        folder: The project's.
        origin: What ``installed_from`` says.

    Returns:
        The copy, relative to the folder; None where jobfn was installed in another way, or the file is not the same.
    """
    facts = json.loads(origin) if origin else {}
    url = urlsplit(facts.get("url", ""))
    hashes = facts.get("archive_info", {}).get("hashes", {})
    source = Path(url2pathname(url.path))
    if url.scheme != "file" or source.suffix != ".whl" or not source.is_file():
        return None
    content = source.read_bytes()
    if hashes.get("sha256") not in {None, hashlib.sha256(content).hexdigest()}:
        return None
    copy = Path("wheels") / source.name
    (folder / copy).write_bytes(content)
    return copy


def template() -> Path:
    """Where the template lies."""
    return next(place for place in _PLACES if place.is_dir())


def _template_files() -> Iterator[Path]:
    for path in sorted(template().rglob("*")):
        inside = path.relative_to(template())
        if path.is_file() and not _EXCLUDED.intersection(inside.parts) and path.suffix != ".whl":
            yield path


def _checked_task(task: str) -> str:
    if not _TASK.fullmatch(task) or len(task) > MAX_TASK_IDENTIFIER_CHARACTERS:
        raise ConfigurationError(
            f"the task {task!r}: use letters, digits and _ . : / -, "
            f"at most {MAX_TASK_IDENTIFIER_CHARACTERS} of them, such as process_invoice or email:send"
        )
    return task


def _checked_line(text: str) -> str:
    if not text.isprintable() or '"' in text or "\\" in text:
        raise ConfigurationError("the description must be one line without double quotes and backslashes")
    return text


def _checked_image(image: str) -> str:
    if not _IMAGE.fullmatch(image):
        raise ConfigurationError(f"the image {image!r}: give a name such as registry.example.com/shop/orders:1.0")
    return image
