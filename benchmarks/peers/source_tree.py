"""Import modules of the measured source tree (``--source``), whose names differ between trees."""

import importlib
import importlib.util
from types import ModuleType


def import_first(*names: str) -> ModuleType:
    """Import the first module that exists. Raise ModuleNotFoundError if none does."""
    for name in names:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not name.startswith(error.name):
                raise
    raise ModuleNotFoundError(f"this jobfn has none of {', '.join(names)}")
