"""Loading apps from files and modules, and one-line errors for what cannot be loaded."""

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
#: Defines one task with the identifier of a neighbouring module.
NEIGHBOUR_TASK = "from {module} import identifier\nfrom jobfn import task\n@task(identifier)\ndef f(payload): ..."


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory; modules that the test imports are unloaded."""
    monkeypatch.chdir(tmp_path)
    before = dict(sys.modules)
    monkeypatch.setattr(sys, "path", sys.path[:])
    (tmp_path / "functions_under_test.py").write_text(TASKS)
    yield tmp_path
    for name in set(sys.modules) - set(before):
        del sys.modules[name]


def identifiers(target: str) -> list[str]:
    """Return the task identifiers of a target's app."""
    app = load_app(target)
    assert isinstance(app, FunctionApp)
    return list(app.tasks)


@pytest.mark.parametrize(
    ("target", "tasks"),
    [
        ("functions_under_test.py", ["first", "second"]),
        ("functions_under_test", ["first", "second"]),
        ("functions_under_test.py:app", ["second"]),
        ("functions_under_test.py:first", ["first"]),
    ],
)
def test_target_is_a_file_a_module_an_app_or_a_task(target: str, tasks: list[str]) -> None:
    assert identifiers(target) == tasks


@pytest.mark.parametrize("attribute", ["asgi", "wrapped"])
def test_attribute_may_be_any_asgi_app(attribute: str) -> None:
    assert callable(load_app(f"functions_under_test:{attribute}"))


@pytest.mark.parametrize("attribute", ["missing", "number", "plain", "handler", "Wrapped", "create_app"])
def test_attribute_that_is_not_an_app_is_an_error_with_the_alternatives(attribute: str) -> None:
    with pytest.raises(LoadError) as caught:
        load_app(f"functions_under_test:{attribute}")
    assert str(caught.value) == (
        f"functions_under_test has no app {attribute!r}: its apps and tasks are: first, second, app, asgi, wrapped"
    )


def test_dot_means_the_functions_file_of_the_current_folder(folder: Path) -> None:
    (folder / "functions.py").write_text(TASKS)
    assert identifiers(".") == ["first", "second"]


def test_folder_means_its_functions_file(folder: Path) -> None:
    (folder / "shop").mkdir()
    (folder / "shop" / "functions.py").write_text(TASKS)
    assert identifiers("./shop") == ["first", "second"]


def test_file_can_import_its_neighbours(folder: Path) -> None:
    (folder / "shop").mkdir()
    (folder / "shop" / "neighbour_under_test.py").write_text("identifier = 'from_neighbour'")
    (folder / "shop" / "main_under_test.py").write_text(NEIGHBOUR_TASK.format(module="neighbour_under_test"))
    assert identifiers("shop/main_under_test.py") == ["from_neighbour"]
    assert load_module("shop/main_under_test.py").__name__ != "main_under_test", "a second load is another module"


def test_file_in_a_package_is_a_module_of_the_package(folder: Path) -> None:
    package = folder / "shop_under_test" / "jobs"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "names.py").write_text("identifier = 'relative'")
    (package / "tasks.py").write_text(NEIGHBOUR_TASK.format(module=".names"))
    assert identifiers("shop_under_test/jobs/tasks.py") == ["relative"]
    assert load_module("shop_under_test/jobs/tasks.py") is load_module("shop_under_test.jobs.tasks")


def test_file_named_like_a_standard_module_does_not_replace_it(folder: Path) -> None:
    (folder / "json.py").write_text(TASKS)
    before = sys.modules["json"]
    assert identifiers("json.py") == ["first", "second"]
    assert sys.modules["json"] is before


#: Each target, its file and the error.
INVALID_TARGETS: dict[str, tuple[str | None, str]] = {
    "missing.py": (None, "no file missing.py: pass the Python file that defines your tasks"),
    "folder/": (None, "no file folder: pass"),
    "missing_module": (None, "no module 'missing_module': pass a file, for example functions.py"),
    "functions_under_test.missing": (None, "no module 'functions_under_test.missing'"),
    ":app": (None, "'' is not a module name"),
    "send-email": (None, "'send-email' is not a module name: pass a file, for example functions.py, or a module"),
    "empty.py": ("", 'empty.py has no task: decorate a handler with @task("an_identifier")'),
    "syntax.py": ("x = 1\ndef f(:\n", "{folder}/syntax.py:2: SyntaxError: invalid syntax"),
    "raises.py": ("\n\nraise ValueError('two\\nlines')", "{folder}/raises.py:3: ValueError: two lines"),
    "deep.py": ("def f():\n    1 / 0\nf()", "{folder}/deep.py:2: ZeroDivisionError: division by zero"),
    "imports.py": ("import missing_inside", "{folder}/imports.py:1: ModuleNotFoundError: No module named"),
    "exits.py": ("import sys\nsys.exit('no')", "{folder}/exits.py:2: SystemExit: no"),
    "./functions.txt": (TASKS, "functions.txt is not a Python file: pass the one that defines your tasks"),
    "nul.py": ("x = '\0'", "source code string cannot contain null bytes"),
}


@pytest.mark.parametrize("target", INVALID_TARGETS)
def test_invalid_target_is_a_one_line_error_and_leaves_no_module(target: str, folder: Path) -> None:
    content, message = INVALID_TARGETS[target]
    if content is not None:
        (folder / target).write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        load_app(target)
    text = str(caught.value)
    assert message.format(folder=folder) in text
    assert "\n" not in text
    if target != "empty.py":
        assert target.removesuffix(".py") not in sys.modules
