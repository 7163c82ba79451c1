"""``jobfn init``: create a project from the template in ``templates/function``, and never overwrite a file.

The template is a working project: its placeholder names are replaced. ``knative/service.yaml`` is generated.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jobfn.deploy.handler_project import render_functions, render_handler_json, render_readme, render_tests
from jobfn.deploy.inspection import TaskInfo
from jobfn.deploy.knative import Function, Limits, service
from jobfn.deploy.manifests import as_yaml
from jobfn.errors import ConfigurationError
from jobfn.handler_json import FILE_NAME, HandlerJson
from jobfn.wire import MAX_TASK_IDENTIFIER_CHARACTERS
from jobfn.wire.dns_names import dns_name

#: In a wheel, the template is in the package; in a checkout, at the root.
_TEMPLATE_FOLDERS = (
    Path(__file__).parent.parent / "templates" / "function",
    Path(__file__).parents[3] / "templates" / "function",
)
_EXCLUDED = frozenset({"__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".venv", ".jobfn"})
_MANIFEST = Path("knative", "service.yaml")
#: Left out of projects that have another payload.
_BLUEPRINT = Path("blueprint.yaml")
_PROJECT_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
#: Characters that need no escaping in Python, YAML, TOML and shell strings.
_TASK = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]*")
_IMAGE = re.compile(r"[a-z0-9][A-Za-z0-9_.:/@-]*")


@dataclass(frozen=True)
class Project:
    """A new project.

    Attributes:
        name: Its name: lower case letters, digits and hyphens.
        task: Identifier of its first task.
    """

    name: str
    task: str
    description: str
    image: str

    @classmethod
    def from_folder(
        cls, folder: Path, *, task: str | None = None, description: str | None = None, image: str | None = None
    ) -> "Project":
        """Name a project after its folder, with defaults for what is not given.

        Raises:
            ConfigurationError: A name is invalid.
        """
        name = re.sub("[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")
        if not _PROJECT_NAME.fullmatch(name):
            raise ConfigurationError(
                f"{folder.resolve().name!r} is not a valid project name: use up to 63 letters, digits and hyphens"
            )
        return cls(
            name=name,
            task=_check_task(task or name.replace("-", "_")),
            description=_check_description(description or "A job function."),
            image=_check_image(image or f"registry.example.com/{name}:latest"),
        )

    def render(self, text: str) -> str:
        """Replace the placeholders of the template."""
        for placeholder, value in (
            ("template-project", self.name),
            ("template-description", self.description),
            ("template-image", self.image),
            ("template_task", self.task),
            ("template-task", dns_name(self.task)),
        ):
            text = text.replace(placeholder, value)
        return text

    def manifest(self) -> str:
        """Return the Knative Service of the project, as ``jobfn manifests`` generates it."""
        task = TaskInfo(identifier=self.task, description="", payload={}, location="functions.py")
        function = Function(name=dns_name(self.task), image=self.image, tasks=[task])
        header = f"# The first object of: jobfn manifests . --image {self.image}\n"
        return header + as_yaml(service(function, namespace="jobs", limits=Limits()))


def create_project(project: Project, folder: Path, description: HandlerJson | None = None) -> list[Path]:
    """Write the files of a project and return their relative paths.

    Args:
        project: The project.
        folder: The folder, which may exist.
        description: A ``handler.json`` that decides payload, secrets and configs. Default: the template's example.

    Raises:
        ConfigurationError: A file exists already (then none is written), or the folder is not writable.
    """
    texts = {
        path.relative_to(template_folder()): project.render(path.read_text(encoding="utf-8"))
        for path in _template_files()
    }
    texts[_MANIFEST] = project.manifest()
    if description is not None:
        del texts[_BLUEPRINT]
        texts[Path(FILE_NAME)] = render_handler_json(description, project.task)
        texts[Path("functions.py")] = render_functions(description, project.task)
        texts[Path("tests", "test_functions.py")] = render_tests(description, project.task)
        texts[Path("README.md")] = render_readme(texts[Path("README.md")], description)
    existing = sorted(str(path) for path in texts if (folder / path).exists())
    if existing:
        raise ConfigurationError(
            f"{folder} already has {', '.join(existing)}, so nothing was written: name another folder"
        )
    try:
        for path, text in texts.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            with (folder / path).open("x", encoding="utf-8") as file:  # "x": fails if it was created meanwhile
                file.write(text)
    except OSError as error:
        raise ConfigurationError(
            f"{folder} cannot be written ({error.strerror}): name a folder that you may write to"
        ) from error
    return sorted(texts)


def template_folder() -> Path:
    """Return the folder of the template."""
    return next(folder for folder in _TEMPLATE_FOLDERS if folder.is_dir())


def _template_files() -> Iterator[Path]:
    for path in sorted(template_folder().rglob("*")):
        relative = path.relative_to(template_folder())
        if path.is_file() and not _EXCLUDED.intersection(relative.parts) and path.suffix != ".whl":
            yield path


def _check_task(task: str) -> str:
    if not _TASK.fullmatch(task) or len(task) > MAX_TASK_IDENTIFIER_CHARACTERS:
        raise ConfigurationError(
            f"the task {task!r} is not valid: use letters, digits and _ . : / -, "
            f"at most {MAX_TASK_IDENTIFIER_CHARACTERS} characters: process_invoice, email:send"
        )
    return task


def _check_description(text: str) -> str:
    if not text.isprintable() or '"' in text or "\\" in text:
        raise ConfigurationError("the description must be one line without double quotes and backslashes")
    return text


def _check_image(image: str) -> str:
    if not _IMAGE.fullmatch(image):
        raise ConfigurationError(f"the image {image!r} is not valid: give a name like registry.example.com/orders:1.0")
    return image
