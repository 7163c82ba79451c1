"""Pack the jobfn that is installed into a wheel, so that a new project and its image need no other source of it."""

import base64
import hashlib
import zipfile
from email import message_from_string
from importlib.metadata import Distribution, distribution
from pathlib import Path

#: Files of a wheel's metadata; installers add others, such as ``direct_url.json``.
_METADATA_FILES = frozenset({"METADATA", "WHEEL", "entry_points.txt"})


def pack_own_wheel(folder: Path, installed: Distribution | None = None) -> Path | None:
    """Write the wheel of the installed jobfn.

    Args:
        folder: An existing folder.
        installed: The installed distribution. Default: jobfn.

    Returns:
        Path of the wheel; None if the installation is editable.
    """
    installed = installed or distribution("jobfn")
    contents: dict[str, bytes] = {}
    for file in installed.files or ():
        name = file.as_posix()
        is_code = ".." not in file.parts and file.suffix != ".pyc" and ".dist-info/" not in name
        if is_code or file.name in _METADATA_FILES or ".dist-info/licenses/" in name:
            contents[name] = file.read_binary()
    if "jobfn/__init__.py" not in contents:
        return None
    info = next(name for name in contents if name.endswith(".dist-info/WHEEL")).removesuffix("/WHEEL")
    tag = message_from_string(contents[f"{info}/WHEEL"].decode())["Tag"]
    record = "".join(f"{name},sha256={_digest(content)},{len(content)}\n" for name, content in contents.items())
    contents[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    wheel = folder / f"{info.removesuffix('.dist-info')}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return wheel


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
