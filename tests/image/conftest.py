"""Fixtures that build images, without pulling anything and without a container engine.

``debootstrap`` creates the base once, in ``build/image``; pip downloads wheels there. Buildah builds in a temporary
store. The tests are skipped where this is not possible."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from support.images import BASE, ROOT, Image, Store

CACHE = ROOT / "build" / "image"
SUITE = "trixie"
#: Python version of the base.
BASE_PYTHON = "3.13"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
LOCKS = (
    "locks/build.txt",
    "locks/service.txt",
    "templates/function/requirements.lock",
    "examples/send_email/requirements.lock",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder, which `make image` runs."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("image")


def run(*command: str, env: dict[str, str] | None = None) -> str:
    """Run a command and return its output; the error of a failed one has its output."""
    process = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | (env or {}))
    assert process.returncode == 0, f"{' '.join(command)}\n{process.stdout}\n{process.stderr}"
    return process.stdout


@pytest.fixture(scope="session")
def _can_build() -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("images can be built by root on Linux only: buildah and debootstrap use chroot")
    if os.uname().machine != "x86_64":
        pytest.skip("the images are built for x86_64 only")
    missing = [name for name in ("buildah", "debootstrap", "unshare", "chroot") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}: apt-get install buildah debootstrap")


@pytest.fixture(scope="session")
def base_archive(_can_build: None) -> Path:
    """Debian with python3 and venv as a tar file. ``DEBIAN_MIRROR`` sets another mirror."""
    archive = CACHE / f"{SUITE}.tar"
    if not archive.is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        root = CACHE / f"{SUITE}.new"
        shutil.rmtree(root, ignore_errors=True)
        mirror = [os.environ["DEBIAN_MIRROR"]] if "DEBIAN_MIRROR" in os.environ else []
        packages = "--include=python3,python3-venv,ca-certificates"
        command = ("debootstrap", "--variant=minbase", packages, SUITE, str(root), *mirror)
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        if process.returncode != 0:
            pytest.skip(f"debootstrap failed: {process.stdout.strip().splitlines()[-1:]}")
        for file in (*root.glob("var/cache/apt/archives/*.deb"), *root.glob("var/lib/apt/lists/*_*")):
            file.unlink()
        run("tar", "-C", str(root), "-cf", f"{archive}.new", ".")
        Path(f"{archive}.new").rename(archive)
        shutil.rmtree(root)
    return archive


@pytest.fixture(scope="session")
def wheelhouse(_can_build: None) -> Path:
    """The packages of all locks, downloaded by hash."""
    folder = CACHE / "wheels"
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    for lock in LOCKS:
        run(
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"),
            *("--python-version", BASE_PYTHON, *platforms, "--require-hashes"),
            *("--requirement", str(ROOT / lock), "--dest", str(folder)),
        )
    return folder


@pytest.fixture(scope="session")
def store(base_archive: Path, wheelhouse: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with the base image."""
    folder = tmp_path_factory.mktemp("images")
    settings = folder / "storage.conf"
    settings.write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{folder / "graph"}"\nrunroot = "{folder / "run"}"\n')
    env = {
        "CONTAINERS_STORAGE_CONF": str(settings),
        "STORAGE_DRIVER": "vfs",
        "BUILDAH_ISOLATION": "chroot",
    }
    store = Store(folder, env, wheelhouse, run)
    context = folder / "base"
    context.mkdir()
    shutil.copyfile(base_archive, context / "base.tar")
    (context / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
    store.buildah("build", "--quiet", "--pull=never", "--format", "docker", "--tag", BASE, str(context))
    try:
        yield store
    finally:
        store.buildah("umount", "--all")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def own_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """jobfn's wheel."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder), str(ROOT))
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def template_image(store: Store, own_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Image of a project of `jobfn init`, built by `jobfn build`."""
    project = tmp_path_factory.mktemp("projects") / "my-function"
    jobfn = str(Path(sys.executable).with_name("jobfn"))
    run(jobfn, "init", str(project), "--task", "email:welcome")
    shutil.copy(own_wheel, project / "wheels")
    tag = "localhost/my-function"
    build_output = run(
        *(jobfn, "build", str(project), "--with", "buildah", "--tag", tag),
        *("--", *store.options),
        env=store.env,
    )
    manifest = yaml.safe_load((project / "knative" / "service.yaml").read_text())
    return store.image(tag, build_output, service_name=manifest["metadata"]["name"])


@pytest.fixture(scope="session")
def example_image(store: Store) -> Image:
    """Image of the example, from the repository's Dockerfile."""
    tag = "localhost/send-email"
    return store.image(tag, store.build(ROOT, "--tag", tag, "--build-arg", "FUNCTION=examples/send_email"))


@pytest.fixture(scope="session")
def service_image(store: Store) -> Image:
    """Image of the job service, from the repository's Dockerfile."""
    tag = "localhost/jobs"
    return store.image(tag, store.build(ROOT, "--tag", tag, "--target", "service"))


@pytest.fixture
async def database_on_tcp(database: str) -> AsyncIterator[str]:
    """TCP address of the test's database: containers cannot reach its Unix socket."""
    async with forward_tcp(database) as address:
        yield address


@pytest.fixture
async def empty_database_on_tcp(empty_database: str) -> AsyncIterator[str]:
    """TCP address of a database without a schema."""
    async with forward_tcp(empty_database) as address:
        yield address


@contextlib.asynccontextmanager
async def forward_tcp(dsn: str) -> AsyncIterator[str]:
    """Forward a TCP port to the Unix socket of a DSN."""
    address = urlsplit(dsn)
    folder = parse_qs(address.query).get("host", [None])[0]
    if folder is None:
        yield dsn
        return

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while part := await reader.read(65536):
                writer.write(part)
                await writer.drain()
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_database, to_database = await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.5432")
        await asyncio.gather(copy(reader, to_database), copy(from_database, writer))

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"postgresql://postgres@127.0.0.1:{port}{address.path}"
    finally:
        server.close()
