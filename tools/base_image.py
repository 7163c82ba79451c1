"""Pin the base image of the Dockerfiles: write the digest that its tag has now into each of them.

``python tools/base_image.py`` asks the image's registry and needs no container engine. All Dockerfiles have the same
``ARG BASE_IMAGE``, which a test checks. An argument names another image, such as ``docker.io/library/python:3.14``.
"""

import re
import sys
from pathlib import Path
from typing import Final

import httpx

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILES = ("Dockerfile", "examples/send_email/Dockerfile", "templates/function/Dockerfile")
#: Host and path of an image, its tag, and its digest, if it has one.
IMAGE = re.compile(
    r"(?P<host>[a-z0-9.-]+(?::\d+)?)/(?P<path>[a-z0-9._/-]+):(?P<tag>[\w.-]+)(?P<digest>@sha256:[0-9a-f]{64})?"
)
#: Names the default in a table.
PAGE = "docs/deploy-knative.md"
_ROW = re.compile(r"^(\| `BASE_IMAGE` \| `)[^`]+", re.MULTILINE)
_ARGUMENT = re.compile(r"^ARG BASE_IMAGE=(\S+)$", re.MULTILINE)
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
#: A list of images for several architectures; its digest is the one that a Dockerfile needs.
_MEDIA_TYPES = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json"
_REGISTRIES: Final = {"docker.io": "https://registry-1.docker.io"}
TIMEOUT_SECONDS: Final = 20.0


class PinError(Exception):
    """The digest cannot be had, or a file has no base image."""


def read_image(root: Path) -> str:
    """Return the base image, which is the same in all Dockerfiles."""
    images: set[str] = {image for name in DOCKERFILES for image in _ARGUMENT.findall((root / name).read_text("utf-8"))}
    if len(images) != 1:
        raise PinError(f"the Dockerfiles have different base images: {', '.join(sorted(images))}")
    return images.pop()


def fetch_digest(image: str, registry_url: str | None = None) -> str:
    """Return the digest that the tag of an image has now, from its registry."""
    match = IMAGE.fullmatch(image)
    if match is None:
        raise PinError(f"{image} is not an image with its host and tag, such as docker.io/library/python:3.13")
    url = registry_url or _REGISTRIES.get(match["host"], f"https://{match['host']}")
    manifest = f"{url}/v2/{match['path']}/manifests/{match['tag']}"
    headers = {"Accept": _MEDIA_TYPES}
    try:
        with httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=True) as client:
            response = client.head(manifest, headers=headers)
            if response.status_code == 401:
                challenge = dict(_CHALLENGE.findall(response.headers.get("WWW-Authenticate", "")))
                realm = challenge.pop("realm")
                headers["Authorization"] = f"Bearer {client.get(realm, params=challenge).json()['token']}"
                response = client.head(manifest, headers=headers)
    except (httpx.HTTPError, KeyError, ValueError) as error:
        raise PinError(f"{image}: its registry did not answer ({type(error).__name__}): try again elsewhere") from error
    digest: str = response.headers.get("Docker-Content-Digest", "")
    if response.status_code != 200 or not _DIGEST.fullmatch(digest):
        raise PinError(f"{image}: its registry answered {response.status_code} and no digest: try again elsewhere")
    return digest


def write_image(root: Path, image: str) -> None:
    """Write the base image into all Dockerfiles and the page that names it."""
    page = root / PAGE
    page.write_text(_ROW.sub(rf"\g<1>{image}", page.read_text("utf-8")), "utf-8")
    for name in DOCKERFILES:
        path = root / name
        path.write_text(_ARGUMENT.sub(f"ARG BASE_IMAGE={image}", path.read_text("utf-8")), "utf-8")


def main(arguments: list[str], root: Path = ROOT, registry_url: str | None = None) -> int:
    """Run the command and return its exit code."""
    try:
        image = arguments[0] if arguments else read_image(root)
        tagged = image.partition("@")[0]
        pinned = f"{tagged}@{fetch_digest(tagged, registry_url)}"
    except PinError as error:
        print(error, file=sys.stderr)
        return 1
    write_image(root, pinned)
    print(f"base image: {pinned}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
