"""New projects: names and files."""

from pathlib import Path

import pytest

from jobfn.deploy.scaffold import Project, create_project, template_folder
from jobfn.errors import ConfigurationError


@pytest.mark.parametrize(
    ("folder", "name", "task"),
    [
        ("orders", "orders", "orders"),
        ("My Function", "my-function", "my_function"),
        ("shop/Orders_2", "orders-2", "orders_2"),
    ],
)
def test_project_is_named_after_its_folder(folder: str, name: str, task: str, tmp_path: Path) -> None:
    project = Project.from_folder(tmp_path / folder)
    assert (project.name, project.task) == (name, task)
    assert project.image == f"registry.example.com/{name}:latest"


def test_current_folder_names_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "orders").mkdir()
    monkeypatch.chdir(tmp_path / "orders")
    assert Project.from_folder(Path()).name == "orders"


def test_caches_and_wheels_of_the_template_are_not_copied(tmp_path: Path) -> None:
    paths = create_project(Project.from_folder(tmp_path / "orders"), tmp_path / "orders")
    assert not [path for path in paths if "__pycache__" in path.parts or path.suffix in {".pyc", ".whl"}]
    assert {path.name for path in paths} >= {"functions.py", ".gitignore", ".dockerignore", "service.yaml"}
    assert template_folder().name == "function"


@pytest.mark.parametrize("options", [{"task": "a b"}, {"task": 'a"b'}, {"description": "a\nb"}, {"image": "a b"}])
def test_names_that_need_escaping_are_rejected(options: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        Project.from_folder(tmp_path / "orders", **options)
