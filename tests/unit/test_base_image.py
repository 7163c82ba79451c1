"""The base image of the Dockerfiles, and the tool that pins it, against a registry of the test."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tools.base_image import DOCKERFILES, IMAGE, PAGE, ROOT, main, read_image

DIGEST = "sha256:" + "a1" * 32
OLD = "docker.io/library/python:3.13-slim"


class Registry(BaseHTTPRequestHandler):
    """Answers with the digest of the image to those who asked for a token."""

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        assert query == {"service": ["images"], "scope": ["repository:library/python:pull"]}
        body = json.dumps({"token": "t"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        if self.headers.get("Authorization") != "Bearer t":
            self.send_response(401)
            realm = f"http://{self.headers['Host']}/token"
            scope = "repository:library/python:pull"
            self.send_header("WWW-Authenticate", f'Bearer realm="{realm}",service="images",scope="{scope}"')
        elif self.path == "/v2/library/python/manifests/3.13-slim":
            self.send_response(200)
            self.send_header("Docker-Content-Digest", DIGEST)
        else:
            self.send_response(404)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def registry_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in DOCKERFILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"# An image.\nARG BASE_IMAGE={OLD}\nFROM ${{BASE_IMAGE}}\n")
    (tmp_path / PAGE).parent.mkdir()
    (tmp_path / PAGE).write_text(f"| `BASE_IMAGE` | `{OLD}` | any |\n")
    return tmp_path


def test_dockerfiles_have_the_same_base_image_with_a_tag() -> None:
    image = read_image(ROOT)
    assert IMAGE.fullmatch(image), "docker.io/library/python:TAG, or the same with @sha256:DIGEST"
    assert f"| `BASE_IMAGE` | `{image}` |" in (ROOT / "docs" / "deploy-knative.md").read_text("utf-8")
    assert (
        sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("[!.]*/**/Dockerfile"))
        == sorted(DOCKERFILES)[1:]
    )


@pytest.mark.parametrize("image", [[], [OLD], [f"{OLD}@sha256:{'0' * 64}"]], ids=["own", "tag", "digest"])
def test_digest_is_written_into_all_dockerfiles(image: list[str], root: Path, registry_url: str) -> None:
    assert main(image, root, registry_url) == 0
    assert read_image(root) == f"{OLD}@{DIGEST}"
    assert (root / PAGE).read_text() == f"| `BASE_IMAGE` | `{OLD}@{DIGEST}` | any |\n"
    assert (root / "Dockerfile").read_text() == f"# An image.\nARG BASE_IMAGE={OLD}@{DIGEST}\nFROM ${{BASE_IMAGE}}\n"


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("docker.io/library/python:9", "docker.io/library/python:9: its registry answered 404 and no digest"),
        ("python", "python is not an image with its host and tag"),
    ],
)
def test_image_without_a_digest_changes_nothing(
    image: str, message: str, root: Path, registry_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([image], root, registry_url) == 1
    assert capsys.readouterr().err.startswith(message)
    assert read_image(root) == OLD


def test_registry_that_does_not_answer_changes_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], root, "http://127.0.0.1:1") == 1
    assert "its registry did not answer (ConnectError)" in capsys.readouterr().err


def test_different_base_images_are_an_error(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "Dockerfile").write_text("ARG BASE_IMAGE=docker.io/library/debian:13\n")
    assert main([], root) == 1
    assert "have different base images" in capsys.readouterr().err
