"""Read a blueprint file as plain values: JSON, YAML or TOML, depending on its suffix.

The result contains only JSON values; dates become text. Next step: ``blueprint.py``.
"""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from jobfn.errors import BlueprintError, ConfigurationError
from jobfn.install import install_command


def read_document(path: Path) -> Any:
    """Return the content of a file.

    Raises:
        BlueprintError: The file cannot be read or parsed. The message names the line where the format tells it.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise BlueprintError(f"{path}: a blueprint file must end in {', '.join(_READERS)}")
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise BlueprintError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise BlueprintError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from error
    try:
        return _to_json_values(reader(text))
    except RecursionError:
        raise BlueprintError(f"{path} is nested too deeply or contains itself") from None
    except ValueError as error:
        raise BlueprintError(f"{path}: {' '.join(str(error).split())}") from error


def _read_yaml(text: str) -> Any:
    try:
        import yaml  # noqa: PLC0415  - only where a blueprint is YAML
    except ImportError:
        raise ConfigurationError(f"YAML blueprints need {install_command('worker')}; JSON and TOML do not") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _to_json_values(value: Any) -> Any:
    """Convert dates to text and reject keys that are not strings."""
    if isinstance(value, dict):
        invalid = next((key for key in value if not isinstance(key, str)), None)
        if invalid is not None:
            raise ValueError(f"the key {invalid!r} is not text: put it in quotes")
        return {key: _to_json_values(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_to_json_values(inner) for inner in value]
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value


_READERS: Final[dict[str, Callable[[str], Any]]] = {
    ".json": json.loads,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".toml": tomllib.loads,
}
