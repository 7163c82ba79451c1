"""A blueprint's file as plain values: JSON, YAML or TOML, whichever its name ends in.

What comes out holds what JSON can hold, and dates as text. ``blueprint.py`` gives it meaning.
"""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from jobfn.errors import BlueprintError, ConfigurationError


def read_document(path: Path) -> Any:
    """The file's content.

    Raises:
        BlueprintError: There is no such file, or it is not what its name says; names the line where it can.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise BlueprintError(f"{path}: a blueprint is a file that ends in {', '.join(_READERS)}")
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise BlueprintError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise BlueprintError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from error
    try:
        return _plain(reader(text))
    except RecursionError:
        raise BlueprintError(f"{path} is nested too deeply, or holds itself") from None
    except ValueError as error:
        raise BlueprintError(f"{path}: {' '.join(str(error).split())}") from error


def _read_yaml(text: str) -> Any:
    try:
        import yaml  # noqa: PLC0415  - only where a blueprint is YAML
    except ImportError:
        raise ConfigurationError(
            "a blueprint in YAML needs pip install 'jobfn[worker]'; JSON and TOML do not"
        ) from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _plain(value: Any) -> Any:
    """Dates as text; keys that are no text are an error, since JSON has none."""
    if isinstance(value, dict):
        wrong = next((key for key in value if not isinstance(key, str)), None)
        if wrong is not None:
            raise ValueError(f"the key {wrong!r} is not text: put it in quotes")
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value


_READERS: Final[dict[str, Callable[[str], Any]]] = {
    ".json": json.loads,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".toml": tomllib.loads,
}
