"""The checks of `make audit`, against folders and an index of the test."""

import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tools.audit import main

HASH = "--hash=sha256:" + "0" * 64
LOCKED = (
    f"a-package==1.2 ; python_full_version < '3.12' \\\n    {HASH} \\\n    {HASH}\nother==2.0.post1 \\\n    {HASH}\n"
)
#: Answers of the index by path.
ANSWERS = {
    "/pypi/a-package/1.2/json": '{"info": {"version": "1.2"}, "vulnerabilities": []}',
    "/pypi/other/json": '{"info": {"version": "2.0.post1"}, "vulnerabilities": []}',
    "/pypi/old/json": '{"info": {"version": "9"}, "vulnerabilities": []}',
    "/pypi/bad/1/json": (
        '{"info": {"version": "1"}, "vulnerabilities": [{"id": "X-1", "fixed_in": ["1.1"]},'
        ' {"id": "X-2", "fixed_in": []}, {"id": "X-3", "withdrawn": "2026-01-01"}]}'
    ),
    "/pypi/odd/1/json": "no JSON",
}


class Index(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = ANSWERS.get(self.path, "").encode()
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def index_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def project(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)  # noqa: S607
    subprocess.run(["git", "add", "."], cwd=folder, check=True)  # noqa: S607
    return folder


def test_locks_of_the_project_are_complete(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--locks"]) == 0
    assert ", 0 problems" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("locks/x.txt", LOCKED + "bare\n", "locks/x.txt: bare is not pinned with a hash: run `make lock`"),
        ("requirements.lock", f"a>=1 {HASH}\n", "requirements.lock: a>=1 is not pinned with a hash: run `make lock`"),
        ("requirements.txt", "a==1\n", "requirements.txt: a==1 is not pinned with a hash: run `make lock`"),
        (
            "requirements.lock",
            "a==1 --hash=md5:00\n",
            "requirements.lock: a==1 is not pinned with a hash: run `make lock`",
        ),
        ("requirements.lock", "-e .\n", "requirements.lock: -e . is not pinned with a hash: run `make lock`"),
        ("requirements.lock", "# none\n", "requirements.lock: it pins no package: run `make lock`"),
        (
            "a/package.json",
            '{"dependencies": {"x": "^1.0.0"}}',
            "a/package.json: x ^1.0.0 is not one version: write it out",
        ),
    ],
)
def test_incomplete_lock_is_a_failure(
    name: str, text: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = project(tmp_path, **{name: text})
    for arguments in (["--locks"], ["--index-url", "http://127.0.0.1:1"]):
        assert main(arguments, root) == 1
        assert problem in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("lock", "code", "lines"),
    [
        (LOCKED, 0, ["2 packages: 0 with known vulnerabilities, 0 without data"]),
        (
            f"old==8 {HASH}\nodd==1 {HASH}\n",
            3,
            [
                "odd 1: no data at URL",
                "old 8: no data at URL",
                "2 packages: 0 with known vulnerabilities, 2 without data",
            ],
        ),
        (
            LOCKED + f"Bad==1 {HASH}\nunknown==1 {HASH}\n",
            1,
            [
                "bad 1: X-1 (fixed in 1.1); X-2 (fixed in no release)",
                "unknown 1: no data at URL",
                "4 packages: 1 with known vulnerabilities, 1 without data",
            ],
        ),
    ],
    ids=["clean", "no data", "vulnerable"],
)
def test_verdict(
    lock: str, code: int, lines: list[str], index_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = project(tmp_path, **{"requirements.lock": lock})
    assert main(["--no-environment", "--index-url", index_url], root) == code
    assert capsys.readouterr().out.replace(index_url, "URL").splitlines() == lines


def test_unreachable_index_is_no_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = project(tmp_path, **{"requirements.lock": LOCKED})
    assert main(["--no-environment", "--index-url", "http://127.0.0.1:1"], root) == 3
    assert "2 packages: 0 with known vulnerabilities, 2 without data" in capsys.readouterr().out
