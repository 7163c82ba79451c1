"""From a file or module name to a function app: what ``jobfn serve functions.py`` and the containers do."""

import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import cast

from starlette.types import ASGIApp

from jobfn.errors import JobfnError, LoadError
from jobfn.function.app import create_app, tasks_of
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
    if not callable(found):
        known = ", ".join(key for key in vars(module) if not key.startswith("_"))
        raise LoadError(f"{name} has no app {attribute!r}; it holds: {known}")
    return cast("ASGIApp", found)


def load_module(name: str) -> ModuleType:
    """Import a file by its path, or a module by its name. A file's folder becomes importable, as for ``python FILE``.

    Raises:
        LoadError: There is no such file or module, or importing it raised; names the line that did.
    """
    try:
        if name.endswith(".py") or "/" in name:
            return _load_file(Path(name))
        _make_importable(Path.cwd())
        return importlib.import_module(name)
    except JobfnError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise LoadError(
                f"no module {name!r}: give a file such as functions.py, or run where it can be imported"
            ) from error
        raise LoadError(_where(name, error)) from error
    except Exception as error:
        raise LoadError(_where(name, error)) from error


def _load_file(path: Path) -> ModuleType:
    if path.is_dir():
        path /= "functions.py"
    if not path.is_file():
        raise LoadError(f"no file {path}: give the Python file that holds your tasks")
    path = path.resolve()
    _make_importable(path.parent)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise LoadError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(path.stem, None)
        raise
    return module


def _make_importable(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _where(name: str, error: Exception) -> str:
    """One line: the last place outside the import machinery that raised, and what it said."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: SyntaxError: {error.msg}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    own = [frame for frame in frames if frame.filename != __file__]
    place = f"{own[-1].filename}:{own[-1].lineno}" if own else name
    return f"{place}: {type(error).__name__}: {error}"
