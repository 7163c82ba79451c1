"""Load a function app from a file or module: what ``jobfn serve functions.py`` and the containers do."""

import importlib
import importlib.util
import inspect
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import cast

from starlette.types import ASGIApp

from jobfn.errors import JobfnError, LoadError
from jobfn.function.app import FunctionApp, collect_tasks, create_app
from jobfn.function.task import Task


def load_app(target: str) -> ASGIApp:
    """Return the ASGI app of ``FILE_OR_MODULE[:attribute]``.

    Args:
        target: A path, for example ``functions.py``, or a module, for example ``shop.functions``: an app with the
            tasks among its attributes. A folder means its ``functions.py``, or the handler that its ``handler.json``
            describes. With ``:attribute``, that attribute: an ASGI app, or one task.

    Raises:
        LoadError: The target is missing, cannot be imported or has no task.
        TaskDefinitionError: A task definition is invalid.
    """
    name, _, attribute = target.partition(":")
    folder = Path(name)
    if not attribute and _is_handler_folder(folder):
        from jobfn.function.handler_folder import handler_task  # noqa: PLC0415  - keeps cold starts short

        module = load_module(str(folder / "handler.py"))
        return create_app(tasks=[handler_task(folder, getattr(module, "handler", None))])
    module = load_module(name)
    if not attribute:
        if not collect_tasks(module):
            raise LoadError(f'{name} has no task: decorate a handler with @task("an_identifier")')
        return create_app(module)
    value = getattr(module, attribute, None)
    if isinstance(value, Task):
        return create_app(tasks=[value])
    if not _is_asgi_app(value):
        known = ", ".join(
            key for key, candidate in vars(module).items() if isinstance(candidate, Task) or _is_asgi_app(candidate)
        )
        raise LoadError(f"{name} has no app {attribute!r}: its apps and tasks are: {known or 'none'}")
    return cast("ASGIApp", value)


def _is_handler_folder(folder: Path) -> bool:
    """Return whether a folder has a ``handler.json`` and no ``functions.py``, which takes precedence."""
    return (folder / "handler.json").is_file() and not (folder / "functions.py").exists()


def load_function_app(target: str) -> FunctionApp:
    """Return the function app of ``FILE_OR_MODULE[:attribute]``, whose tasks are known."""
    app = load_app(target)
    if not isinstance(app, FunctionApp):
        raise LoadError(
            f"{target} is not an app of create_app, so its tasks are unknown: "
            "name the app that create_app(...) returned, or the file or module that defines the tasks"
        )
    return app


def load_module(name: str) -> ModuleType:
    """Import a file by path, or a module by name. A file's folder becomes importable, as with ``python FILE``.

    Raises:
        LoadError: The file or module is missing, or importing it raised; the text holds the file and line.
    """
    try:
        if name.endswith(".py") or "/" in name or name == ".":
            return _load_file(Path(name))
        return _load_module_by_name(name)
    except JobfnError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise LoadError(
                f"no module {name!r}: pass a file, for example functions.py, or run where it can be imported"
            ) from error
        raise LoadError(_describe(name, error)) from error
    except (Exception, SystemExit) as error:
        raise LoadError(_describe(name, error)) from error


def _load_file(path: Path) -> ModuleType:
    if path.is_dir():
        path /= "functions.py"
    if not path.is_file():
        raise LoadError(f"no file {path}: pass the Python file that defines your tasks")
    path = path.resolve()
    if (path.parent / "__init__.py").is_file():
        return _load_from_package(path)
    _make_importable(path.parent)
    # A file called email.py must not replace the standard library's module.
    name = path.stem if path.stem not in sys.modules else f"jobfn_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise LoadError(f"{path} is not a Python file: pass the one that defines your tasks")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _load_module_by_name(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise LoadError(f"{name!r} is not a module name: pass a file, for example functions.py, or a module")
    _make_importable(Path.cwd())
    return importlib.import_module(name)


def _load_from_package(path: Path) -> ModuleType:
    """Import a file as a module of its package, so that its relative imports work."""
    names = [path.stem]
    folder = path.parent
    while (folder / "__init__.py").is_file():
        names.insert(0, folder.name)
        folder = folder.parent
    _make_importable(folder)
    return importlib.import_module(".".join(names))


def _make_importable(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _is_asgi_app(value: object) -> bool:
    """Whether a value is callable as ``app(scope, receive, send)`` and is neither a class nor a task."""
    if inspect.isclass(value) or isinstance(value, Task):
        return False
    function = value if inspect.isroutine(value) else getattr(value, "__call__", None)  # noqa: B004  - it is inspected
    if not inspect.iscoroutinefunction(function):
        return False
    try:
        inspect.signature(function).bind(None, None, None)
    except TypeError:
        return False
    return True


def _describe(name: str, error: BaseException) -> str:
    """Return one line: the file and line that raised, outside the import machinery, and the error."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "importlib" not in frame.filename and frame.filename != __file__
    ]
    location = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else name
    return " ".join(f"{location}: {type(error).__name__}: {error}".split())
