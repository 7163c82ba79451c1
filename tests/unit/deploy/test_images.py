"""Choice of the image builder, and its commands."""

from pathlib import Path

import pytest

from jobfn.deploy.images import Builder, find_builder, image_commands


@pytest.mark.parametrize(
    ("installed", "requested", "chosen"),
    [
        (["docker", "podman", "buildah"], None, Builder.DOCKER),
        (["podman", "buildah"], None, Builder.PODMAN),
        (["buildah"], None, Builder.BUILDAH),
        (["docker", "podman"], Builder.PODMAN, Builder.PODMAN),
    ],
)
def test_first_installed_builder_is_used_unless_one_is_requested(
    installed: list[str], requested: Builder | None, chosen: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in installed:
        (tmp_path / name).touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_builder(requested) is chosen


def test_podman_and_buildah_write_docker_s_format() -> None:
    folder = Path("shop")
    build, push = image_commands(Builder.DOCKER, folder, tag="shop:1", extra=["--no-cache"])
    assert build == ["docker", "build", "--tag", "shop:1", "--no-cache", "shop"]
    assert push == ["docker", "push", "shop:1"]
    build, _ = image_commands(Builder.PODMAN, folder, tag="shop:1")
    assert build == ["podman", "build", "--format", "docker", "--tag", "shop:1", "shop"]
