"""New projects: their names, and the wheel that they are given."""

import hashlib
import json
from pathlib import Path

import pytest

from jobfn.deploy.scaffold import Project, add_own_wheel, create, template
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
def test_what_a_folder_suggests(folder: str, name: str, task: str, tmp_path: Path) -> None:
    """The project's name, its task, its image."""
    project = Project.named_after(tmp_path / folder)
    assert (project.name, project.task) == (name, task)
    assert project.image == f"registry.example.com/{name}:latest"


def test_the_folder_one_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`jobfn init .` takes its name."""
    (tmp_path / "orders").mkdir()
    monkeypatch.chdir(tmp_path / "orders")
    assert Project.named_after(Path()).name == "orders"


def test_no_part_of_the_template_s_own_work_is_copied(tmp_path: Path) -> None:
    """Caches, bytecode and wheels that lie in the template stay there."""
    made = create(Project.named_after(tmp_path / "orders"), tmp_path / "orders")
    assert not [path for path in made if "__pycache__" in path.parts or path.suffix in {".pyc", ".whl"}]
    assert {path.name for path in made} >= {"functions.py", ".gitignore", ".dockerignore", "service.yaml"}
    assert template().name == "function"


def origin(wheel: Path, **archive: object) -> str:
    return json.dumps({"url": wheel.as_uri(), "archive_info": archive})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project" / "wheels").mkdir(parents=True)
    return tmp_path / "project"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    (tmp_path / "a place").mkdir()
    found = tmp_path / "a place" / WHEEL
    found.write_bytes(b"wheel")
    return found


def test_the_wheel_that_jobfn_came_from_is_copied(project: Path, wheel: Path) -> None:
    """Whether pip has noted its hash or not."""
    digest = hashlib.sha256(b"wheel").hexdigest()
    for noted in (origin(wheel, hashes={"sha256": digest}), origin(wheel)):
        copy = add_own_wheel(project, noted)
        assert copy == Path("wheels", WHEEL)
        assert (project / copy).read_bytes() == b"wheel"
        (project / copy).unlink()


def test_no_other_file_is(project: Path, wheel: Path) -> None:
    """Installed from an index, a folder, an address, a file that is gone, or one that has changed: none."""
    gone = wheel.with_name("gone.whl")
    for noted in (
        None,
        json.dumps({"url": wheel.parent.as_uri(), "dir_info": {"editable": True}}),
        json.dumps({"url": f"https://example.com/{WHEEL}", "archive_info": {}}),
        origin(gone),
        origin(wheel, hashes={"sha256": "0" * 64}),
    ):
        assert add_own_wheel(project, noted) is None
    assert list((project / "wheels").iterdir()) == []


@pytest.mark.parametrize("given", [{"task": "a b"}, {"task": 'a"b'}, {"description": "a\nb"}, {"image": "a b"}])
def test_what_would_break_a_file_is_refused(given: dict[str, str], tmp_path: Path) -> None:
    """Names go into Python, YAML, TOML and shell as they are, so they hold nothing that means something there."""
    with pytest.raises(ConfigurationError):
        Project.named_after(tmp_path / "orders", **given)
