"""From a file or a module's name to an app, and one clear line for what cannot be loaded."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobfn import ConfigurationError, FunctionApp, LoadError
from jobfn.function.loading import load_app, load_module

TASKS = """\
from jobfn import create_app, task

@task("first")
def first(payload): ...

@task("second")
def second(payload): ...

app = create_app(tasks=[second])

async def asgi(scope, receive, send): ...

class Wrapped:
    async def __call__(self, scope, receive, send): ...

wrapped = Wrapped()
number = 5
def plain(payload): ...
async def handler(payload): ...
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder; what tests import is forgotten."""
    monkeypatch.chdir(tmp_path)
    before = dict(sys.modules)
    monkeypatch.setattr(sys, "path", sys.path[:])
    (tmp_path / "functions_under_test.py").write_text(TASKS)
    yield tmp_path
    for name in set(sys.modules) - set(before):
        del sys.modules[name]


def tasks_of(target: str) -> list[str]:
    """The identifiers that the app of a target serves."""
    app = load_app(target)
    assert isinstance(app, FunctionApp)
    return list(app.tasks)


@pytest.mark.parametrize("target", ["functions_under_test.py", "./functions_under_test.py", "functions_under_test"])
def test_a_file_or_a_module_gives_all_its_tasks(target: str) -> None:
    """In the order of the file."""
    assert tasks_of(target) == ["first", "second"]


@pytest.mark.parametrize(("attribute", "tasks"), [("app", ["second"]), ("first", ["first"])])
def test_an_attribute_is_an_app_or_a_task(attribute: str, tasks: list[str]) -> None:
    """``:app`` is used as it is, a task is served alone."""
    assert tasks_of(f"functions_under_test.py:{attribute}") == tasks


@pytest.mark.parametrize("attribute", ["asgi", "wrapped"])
def test_any_asgi_app_will_do(attribute: str) -> None:
    """A function or an object of three parameters."""
    assert callable(load_app(f"functions_under_test:{attribute}"))


@pytest.mark.parametrize("attribute", ["missing", "number", "plain", "handler", "Wrapped", "create_app"])
def test_what_is_no_app_is_named_with_what_there_is(attribute: str) -> None:
    """The choices are shown."""
    with pytest.raises(LoadError) as caught:
        load_app(f"functions_under_test:{attribute}")
    assert str(caught.value) == (
        f"functions_under_test has no app {attribute!r}: its apps and tasks are: first, second, app, asgi, wrapped"
    )


def test_a_folder_means_its_functions_file(folder: Path) -> None:
    """``functions.py`` in it."""
    (folder / "shop").mkdir()
    (folder / "shop" / "functions.py").write_text(TASKS)
    assert tasks_of("./shop") == ["first", "second"]


def test_a_file_s_neighbours_can_be_imported(folder: Path) -> None:
    """As ``python FILE`` does."""
    (folder / "shop").mkdir()
    (folder / "shop" / "neighbour_under_test.py").write_text("identifier = 'from_neighbour'")
    (folder / "shop" / "main_under_test.py").write_text(
        "from neighbour_under_test import identifier\nfrom jobfn import task\n@task(identifier)\ndef f(payload): ..."
    )
    assert tasks_of("shop/main_under_test.py") == ["from_neighbour"]
    assert load_module("shop/main_under_test.py").__name__ != "main_under_test", "a second load is a module of its own"


def test_a_file_in_a_package_is_that_package_s_module(folder: Path) -> None:
    """Relative imports work, and it is the module that others import."""
    package = folder / "shop_under_test" / "jobs"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "names.py").write_text("identifier = 'relative'")
    (package / "tasks.py").write_text(
        "from .names import identifier\nfrom jobfn import task\n@task(identifier)\ndef f(payload): ..."
    )
    assert tasks_of("shop_under_test/jobs/tasks.py") == ["relative"]
    assert load_module("shop_under_test/jobs/tasks.py") is load_module("shop_under_test.jobs.tasks")


def test_a_file_named_like_a_module_shadows_nothing(folder: Path) -> None:
    """``json.py`` is served, and json stays the standard library's."""
    (folder / "json.py").write_text(TASKS)
    before = sys.modules["json"]
    assert tasks_of("json.py") == ["first", "second"]
    assert sys.modules["json"] is before


WRONG = {
    "missing.py": (None, "no file missing.py: pass the Python file that defines your tasks"),
    "folder/": (None, "no file folder: pass"),
    "missing_module": (None, "no module 'missing_module': pass a file, for example functions.py"),
    "missing.module": (None, "no module 'missing.module'"),
    "functions_under_test.missing": (None, "no module 'functions_under_test.missing'"),
    "": (None, "'' is not a module name"),
    ":app": (None, "'' is not a module name"),
    ".relative": (None, "'.relative' is not a module name"),
    "send-email": (None, "'send-email' is not a module name: pass a file, for example functions.py, or a module"),
    "empty.py": ("", 'empty.py has no task: decorate a handler with @task("an_identifier")'),
    "syntax.py": ("x = 1\ndef f(:\n", "{folder}/syntax.py:2: SyntaxError: invalid syntax"),
    "indent.py": ("def f():\nx = 1\n", "{folder}/indent.py:2: IndentationError: expected an indented block"),
    "raises.py": ("\n\nraise ValueError('two\\nlines')", "{folder}/raises.py:3: ValueError: two lines"),
    "deep.py": ("def f():\n    1 / 0\nf()", "{folder}/deep.py:2: ZeroDivisionError: division by zero"),
    "imports.py": ("import missing_inside", "{folder}/imports.py:1: ModuleNotFoundError: No module named"),
    "names.py": ("from os import missing_name", "{folder}/names.py:1: ImportError: cannot import name"),
    "exits.py": ("import sys\nsys.exit('no')", "{folder}/exits.py:2: SystemExit: no"),
    "nul.py": ("x = '\0'", "source code string cannot contain null bytes"),
    "encoding.py": (b"x = '\xff'", "SyntaxError"),
}


@pytest.mark.parametrize("target", WRONG)
def test_what_cannot_be_loaded_is_one_line(target: str, folder: Path) -> None:
    """The file and line that are wrong; nothing half-loaded stays behind."""
    content, message = WRONG[target]
    if content is not None:
        (folder / target).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigurationError) as caught:
        load_app(target)
    text = str(caught.value)
    assert re.search(re.escape(message.format(folder=folder)), text), text
    assert "\n" not in text
    if target != "empty.py":
        assert target.removesuffix(".py") not in sys.modules


def test_what_is_no_python_file(folder: Path) -> None:
    """A file of another kind, given by its path."""
    (folder / "functions.txt").write_text(TASKS)
    with pytest.raises(LoadError, match=r"functions.txt is not a Python file: pass the one that defines your tasks"):
        load_app("./functions.txt")
