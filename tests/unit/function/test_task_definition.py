"""Errors in task definitions: found at import, with file and line."""

import pydoc
import re
from pathlib import Path
from typing import Any

import pytest

import jobfn
from jobfn import TaskDefinitionError, create_app, task
from jobfn.function.loading import load_app, load_module

IMPORTS = """\
from __future__ import annotations
from typing import *
import dataclasses, functools
from jobfn import JobContext, task
import builtins
"""

INVALID_DEFINITIONS = {
    "empty identifier": ('@task("")\ndef f(payload): ...', "a task needs an identifier"),
    "127 characters": (f'@task("{"x" * 127}")\ndef f(payload): ...', "has 127 characters: use at most 126"),
    "relative path": ('@task("..")\ndef f(payload): ...', "would be a relative path in a URL: use another one"),
    "unprintable": ('@task("a\\nb")\ndef f(payload): ...', "must not contain unprintable characters"),
    "without brackets": ("@task\ndef f(payload): ...", 'write @task("an_identifier")'),
    "no parameter": ('@task("t")\ndef f(): ...', "without a payload write handler(payload: None)"),
    "three": ('@task("t")\ndef f(a, b, c): ...', "handler(payload, ctx), but this one takes (a, b, c)"),
    "keyword-only": ('@task("t")\ndef f(a, *, c): ...', "this one takes (a, *, c)"),
    "only keywords": ('@task("t")\ndef f(*, payload): ...', "a handler must be callable as"),
    "generator": ('@task("t")\ndef f(payload):\n    yield 1', "a handler must return its result, not yield it"),
    "class": ('@task("t")\nclass F: ...', "@task decorates a function, not <class"),
    "unknown name": ('@task("t")\ndef f(payload: Missing): ...', "name 'Missing' is not defined"),
    "type checking": (
        'if TYPE_CHECKING:\n    from decimal import Decimal\n@task("t")\ndef f(payload: Decimal): ...',
        "import that name at run time, not only under TYPE_CHECKING",
    ),
    "unknown inside": (
        '@dataclasses.dataclass\nclass M:\n    a: Missing\n@task("t")\ndef f(payload: M): ...',
        "uses 'Missing', which is not defined here",
    ),
    "no attribute": ('@task("t")\ndef f(payload: builtins.missing): ...', "is not readable: AttributeError"),
    "no type": ('@task("t")\ndef f(payload: 5): ...', "is not a type that pydantic can validate"),
    "not for pydantic": (
        'class Plain: ...\n@task("t")\ndef f(payload: Plain): ...',
        "is not a type that pydantic can validate: Unable to generate pydantic-core schema",
    ),
    "context first": ('@task("t")\ndef f(ctx: JobContext): ...', "the payload comes first, then the context"),
    "zero timeout": ('@task("t", timeout=0)\ndef f(payload): ...', "timeout=0 must be a number of seconds above 0"),
    "true timeout": ('@task("t", timeout=True)\ndef f(payload): ...', "timeout=True must be"),
    "secrets text": ('@task("t", secrets="KEY")\ndef f(payload): ...', 'for example secrets=["API_KEY"]'),
    "secret name": (
        '@task("t", secrets=["API KEY"])\ndef f(payload): ...',
        "secrets has Requirement(name='API KEY', required=True): use the name of an environment variable",
    ),
    "config type": ('@task("t", configs=[5])\ndef f(payload): ...', "configs has 5: use the name of an"),
    "wrapped": ('def f(a, b, c): ...\n@functools.wraps(f)\ndef g(*a): ...\ntask("t")(g)', "this one takes (a, b, c)"),
    "callable object": ('class F:\n    def __call__(self, a, b, c): ...\ntask("t")(F())', "this one takes (a, b, c)"),
}


@pytest.mark.parametrize("case", INVALID_DEFINITIONS)
def test_invalid_definition_is_a_one_line_error_with_the_handler_s_line(case: str, tmp_path: Path) -> None:
    code, message = INVALID_DEFINITIONS[case]
    file = tmp_path / "functions.py"
    file.write_text(IMPORTS + code)
    with pytest.raises(TaskDefinitionError) as caught:
        load_module(str(file))
    text = str(caught.value)
    assert message in text
    if case != "class":
        line = int(re.match(re.escape(str(file)) + r":(\d+): ", text)[1])  # type: ignore[index]
        starts = ("@task", "def f", "def __call__")
        assert any(start in file.read_text().splitlines()[line - 1] for start in starts), text
    assert "\n" not in text


def test_identifier_may_have_126_characters_of_any_alphabet(tmp_path: Path) -> None:
    file = tmp_path / "functions.py"
    identifier = "ü" * 126
    file.write_text(IMPORTS + f'@task("{identifier}")\ndef f(payload): ...')
    assert list(load_app(str(file)).tasks) == [identifier]  # type: ignore[attr-defined]


def test_error_of_a_builtin_function_names_it_instead_of_a_line(tmp_path: Path) -> None:
    file = tmp_path / "functions.py"
    file.write_text(IMPORTS + 'task("t")(builtins.dict.fromkeys)\ntask("t")(builtins.iter)')
    with pytest.raises(TaskDefinitionError, match=r"<built-in function iter>"):
        load_module(str(file))


def test_duplicate_identifier_is_an_error_with_both_lines(tmp_path: Path) -> None:
    file = tmp_path / "functions.py"
    file.write_text(IMPORTS + '@task("same")\ndef f(payload): ...\n@task("same")\ndef g(payload): ...')
    with pytest.raises(TaskDefinitionError) as caught:
        load_app(str(file))
    assert str(caught.value) == f"{file}:8: the task 'same' is already defined at {file}:6: rename one"


def test_app_without_tasks_is_an_error() -> None:
    with pytest.raises(TaskDefinitionError, match="the app has no task: decorate a handler"):
        create_app()
    with pytest.raises(TaskDefinitionError, match=r"is not a task: decorate the handler with @task"):
        create_app(tasks=[print])  # type: ignore[list-item]


def test_app_has_only_its_own_tasks(tmp_path: Path) -> None:
    """There is no global registry; a task may be passed twice."""
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(IMPORTS + f'@task("{name}")\ndef f(payload): ...\nagain = f')
    one, two = load_module(str(tmp_path / "one.py")), load_module(str(tmp_path / "two.py"))
    assert list(create_app(one).tasks) == ["one"]
    assert list(create_app(two, tasks=[one.f, two.again]).tasks) == ["two", "one"]


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("timout", "did you mean 'timeout'?"),
        ("max_attempt", "did you mean 'max_attempts'?"),
        ("zzz", "use background, "),
    ],
)
def test_misspelt_option_names_the_nearest(option: str, hint: str) -> None:
    options: dict[str, Any] = {option: 1}
    with pytest.raises(TypeError) as raised:
        task("send", **options)
    assert str(raised.value).startswith(f"task() got an unexpected keyword argument '{option}': {hint}")


def test_help_shows_the_options_of_a_task() -> None:
    text = pydoc.plain(pydoc.render_doc(jobfn.task))
    assert "task(identifier:str,*,timeout:" in "".join(text.split())  # Python 3.13 has an option in each line
    assert ".py" not in text


def test_version_is_that_of_the_package() -> None:
    assert jobfn.__version__ == "0.1.0"
