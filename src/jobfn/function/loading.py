"""From a file or module name to a function app: what ``jobfn serve functions.py`` and the containers do."""

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
from jobfn.function.app import FunctionApp, create_app, tasks_of
from jobfn.function.task import Task


def load_app(target: str) -> ASGIApp:
    """The ASGI app of ``FILE_OR_MODULE[:attribute]``.

    Args:
        target: A path such as ``functions.py`` or a module such as ``shop.functions``: the tasks among its
            attributes are collected. With ``:attribute``, that attribute: an ASGI app, or one task.

    Raises:
        LoadError: It cannot be found or imported, or holds no task; names the place.
        TaskDefinitionError: A task in it cannot work.
    """
    name, _, attribute = target.partition(":")
    module = load_module(name)
    if not attribute:
        if not tasks_of(module):
            raise LoadError(f'{name} holds no task: decorate a handler with @task("an_identifier")')
        return create_app(module)
    found = getattr(module, attribute, None)
    if isinstance(found, Task):
        return create_app(tasks=[found])
    if not _is_app(found):
        known = ", ".join(key for key, value in vars(module).items() if isinstance(value, Task) or _is_app(value))
        raise LoadError(f"{name} has no app {attribute!r}; apps and tasks in it: {known or 'none'}")
    return cast("ASGIApp", found)


def load_function_app(target: str) -> FunctionApp:
    """The function app of ``FILE_OR_MODULE[:attribute]``, for who asks it for its tasks.

    Args:
        target: As for ``load_app``.

    Raises:
        LoadError: As ``load_app``; or it is an ASGI app that ``create_app`` has not made.
        TaskDefinitionError: A task in it cannot work.
    """
    app = load_app(target)
    if not isinstance(app, FunctionApp):
        raise LoadError(
            f"{target} is an app that create_app did not make, and does not tell its tasks: "
            "name what create_app(...) returned, or the file or module that holds the tasks"
        )
    return app


def load_module(name: str) -> ModuleType:
    """Import a file by its path, or a module by its name. A file's folder becomes importable, as for ``python FILE``.

    Raises:
        LoadError: There is no such file or module, or importing it raised; names the line that did.
    """
    try:
        if name.endswith(".py") or "/" in name:
            return _load_file(Path(name))
        return _load_named(name)
    except JobfnError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise LoadError(
                f"no module {name!r}: give a file such as functions.py, or run where it can be imported"
            ) from error
        raise LoadError(_where(name, error)) from error
    except (Exception, SystemExit) as error:
        raise LoadError(_where(name, error)) from error


def _load_file(path: Path) -> ModuleType:
    if path.is_dir():
        path /= "functions.py"
    if not path.is_file():
        raise LoadError(f"no file {path}: give the Python file that holds your tasks")
    path = path.resolve()
    if (path.parent / "__init__.py").is_file():
        return _load_from_package(path)
    _make_importable(path.parent)
    # a file called email.py must not become the standard library's email for everybody else
    name = path.stem if path.stem not in sys.modules else f"jobfn_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise LoadError(f"{path} is no Python file: give the one that holds your tasks")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _load_named(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise LoadError(f"{name!r} is no module's name: give a file such as functions.py, or a module")
    _make_importable(Path.cwd())
    return importlib.import_module(name)


def _load_from_package(path: Path) -> ModuleType:
    """A file inside a package is that package's module, so that its relative imports work."""
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


def _is_app(found: object) -> bool:
    """Whether it can be called as ``app(scope, receive, send)`` and is no class or module."""
    if inspect.isclass(found) or isinstance(found, Task):
        return False
    called = found if inspect.isroutine(found) else getattr(found, "__call__", None)  # noqa: B004  - to look at it
    if not inspect.iscoroutinefunction(called):
        return False
    try:
        inspect.signature(called).bind(None, None, None)
    except TypeError:
        return False
    return True


def _where(name: str, error: BaseException) -> str:
    """One line: the last place outside the import machinery that raised, and what it said."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    own = [frame for frame in frames if frame.filename != __file__]
    place = f"{own[-1].filename}:{own[-1].lineno}" if own else name
    return " ".join(f"{place}: {type(error).__name__}: {error}".split())
