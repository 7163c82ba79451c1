"""Check the project's lock files, and look their packages up in PyPI's data on vulnerabilities.

``python tools/audit.py --locks`` checks only that each lock pins every package with hashes, and each package.json every
version. It needs no network. Without the option, the packages of the locks and of this environment are also looked up,
one request for each release, as pip-audit does.

Exit codes: 0 no known vulnerability; 1 a vulnerability, or a lock that is not complete; 3 no data for some package, and
no vulnerability in the others.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Final, NamedTuple

import httpx

ROOT = Path(__file__).resolve().parents[1]
INDEX_URL = "https://pypi.org"
#: Exit code if there is no data on vulnerabilities.
NO_DATA: Final = 3
TIMEOUT_SECONDS: Final = 20.0
MAX_REQUESTS: Final = 4
_LOCKS = re.compile(r"(^|/)locks/[^/]+\.txt$|(^|/)requirements[^/]*\.(lock|txt)$")
_REQUIREMENT = re.compile(
    r"(?P<name>[\w.-]+)==(?P<version>[\w.!+-]+)( ; [^\\]+?)?(?P<hashes>( --hash=sha256:[0-9a-f]{64})+)"
)
_EXACT_VERSION = re.compile(r"\d+\.\d+\.\d+(-[\w.]+)?")


class Package(NamedTuple):
    """A release of a package."""

    name: str
    version: str


def tracked_files(root: Path) -> list[Path]:
    """Return the files that git knows."""
    listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True)
    return [root / name for name in listed.stdout.splitlines()]


def read_lock(path: Path) -> tuple[list[Package], list[str]]:
    """Return the packages of a lock, and its lines that are not a pinned package with hashes."""
    packages, problems = [], []
    text = re.sub(r"\s*\\\n\s*", " ", path.read_text("utf-8"))
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        match = _REQUIREMENT.fullmatch(line.strip())
        if match is None:
            problems.append(f"{line.split(' --hash')[0].strip()} is not pinned with a hash: run `make lock`")
        else:
            packages.append(Package(match["name"].lower(), match["version"]))
    if not packages:
        problems.append("it pins no package: run `make lock`")
    return packages, problems


def inexact_versions(path: Path) -> list[str]:
    """Return the dependencies of a package.json that are not one version."""
    content = json.loads(path.read_text("utf-8"))
    sections = (content.get(key, {}) for key in ("dependencies", "devDependencies", "overrides"))
    return [
        f"{name} {version} is not one version: write it out"
        for section in sections
        for name, version in section.items()
        if not _EXACT_VERSION.fullmatch(version)
    ]


def check_locks(files: Iterable[Path], root: Path) -> tuple[set[Package], list[str]]:
    """Return the packages of all locks among these files, and what is wrong with them."""
    packages: set[Package] = set()
    problems: list[str] = []
    for path in files:
        name = path.relative_to(root).as_posix()
        if _LOCKS.search(name):
            locked, wrong = read_lock(path)
            packages.update(locked)
        elif path.name == "package.json":
            wrong = inexact_versions(path)
        else:
            continue
        problems += [f"{name}: {problem}" for problem in wrong]
    return packages, problems


def installed_packages() -> Iterator[Package]:
    """Yield the packages of this environment, without the project."""
    for distribution in metadata.distributions():
        if distribution.name.lower() != "jobfn":
            yield Package(distribution.name.lower(), distribution.version)


def known_vulnerabilities(client: httpx.Client, package: Package) -> list[str] | None:
    """Return the known vulnerabilities of a release; None if the index has no data on it."""
    for path in (f"/pypi/{package.name}/{package.version}/json", f"/pypi/{package.name}/json"):
        try:
            response = client.get(path)
            content = response.json() if response.status_code == 200 else {}
        except (httpx.HTTPError, ValueError):
            continue
        # without a version in its path, it is about the newest release
        if content.get("info", {}).get("version") == package.version and "vulnerabilities" in content:
            found = [each for each in content["vulnerabilities"] if not each.get("withdrawn")]
            return [f"{each['id']} (fixed in {', '.join(each.get('fixed_in') or ['no release'])})" for each in found]
    return None


def look_up(packages: Iterable[Package], index_url: str) -> int:
    """Print the known vulnerabilities of these packages, and return the exit code."""
    ordered = sorted(packages)
    with (
        httpx.Client(base_url=index_url, timeout=TIMEOUT_SECONDS, follow_redirects=True) as client,
        ThreadPoolExecutor(MAX_REQUESTS) as threads,
    ):
        found = dict(zip(ordered, threads.map(lambda each: known_vulnerabilities(client, each), ordered), strict=True))
    vulnerable = {package: ids for package, ids in found.items() if ids}
    unknown = [package for package, ids in found.items() if ids is None]
    for package, ids in vulnerable.items():
        print(f"{package.name} {package.version}: {'; '.join(ids)}")
    for package in unknown:
        print(f"{package.name} {package.version}: no data at {index_url}")
    print(f"{len(found)} packages: {len(vulnerable)} with known vulnerabilities, {len(unknown)} without data")
    return 1 if vulnerable else NO_DATA if unknown else 0


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--locks", action="store_true", help="check the locks only, without a network")
    parser.add_argument("--index-url", default=INDEX_URL, help="where to look packages up (default: %(default)s)")
    parser.add_argument("--no-environment", action="store_true", help="do not look up this environment's packages")
    options = parser.parse_args(arguments)
    packages, problems = check_locks(tracked_files(root), root)
    for problem in problems:
        print(problem)
    if options.locks or problems:
        print(f"{len(packages)} locked packages, {len(problems)} problems")
        return 1 if problems else 0
    return look_up(packages if options.no_environment else packages | set(installed_packages()), options.index_url)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
