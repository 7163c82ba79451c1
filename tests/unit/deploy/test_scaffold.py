"""New projects: names, files and the wheel."""

import hashlib
import json
from pathlib import Path

import pytest

from jobfn.deploy.scaffold import Project, copy_installed_wheel, create_project, template_folder
from jobfn.errors import ConfigurationError

WHEEL = "jobfn-0.1.0-py3-none-any.whl"


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


def direct_url_json(wheel: Path, **archive: object) -> str:
    return json.dumps({"url": wheel.as_uri(), "archive_info": archive})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project" / "wheels").mkdir(parents=True)
    return tmp_path / "project"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    (tmp_path / "a folder").mkdir()
    file = tmp_path / "a folder" / WHEEL
    file.write_bytes(b"wheel")
    return file


def test_installed_wheel_is_copied_with_or_without_hash(project: Path, wheel: Path) -> None:
    digest = hashlib.sha256(b"wheel").hexdigest()
    for direct_url in (direct_url_json(wheel, hashes={"sha256": digest}), direct_url_json(wheel)):
        copy = copy_installed_wheel(project, direct_url)
        assert copy == Path("wheels", WHEEL)
        assert (project / copy).read_bytes() == b"wheel"
        (project / copy).unlink()


def test_other_origins_are_not_copied(project: Path, wheel: Path) -> None:
    gone = wheel.with_name("gone.whl")
    for direct_url in (
        None,
        json.dumps({"url": wheel.parent.as_uri(), "dir_info": {"editable": True}}),
        json.dumps({"url": f"https://example.com/{WHEEL}", "archive_info": {}}),
        direct_url_json(gone),
        direct_url_json(wheel, hashes={"sha256": "0" * 64}),
    ):
        assert copy_installed_wheel(project, direct_url) is None
    assert list((project / "wheels").iterdir()) == []


@pytest.mark.parametrize("options", [{"task": "a b"}, {"task": 'a"b'}, {"description": "a\nb"}, {"image": "a b"}])
def test_names_that_need_escaping_are_rejected(options: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        Project.from_folder(tmp_path / "orders", **options)
