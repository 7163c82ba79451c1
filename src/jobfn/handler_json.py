"""``handler.json``: the platform's description of one function. Pure, except for ``HandlerJson.read``.

``jobfn init --handler-json`` and ``jobfn serve FOLDER`` read it; ``function/handler_manifest.py`` writes it.
"""

import json
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobfn.errors import LoadError
from jobfn.settings import Requirement

FILE_NAME: Final = "handler.json"


class HandlerJson(BaseModel):
    """The fields that jobfn reads. Others are kept.

    Attributes:
        task_identifier: Default: the name.
        payload_schema: JSON Schema of the payload; empty if the file has none.
        outputs: The ports of the result, each with a ``name``.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(min_length=1)
    task_identifier: str | None = Field(default=None, alias="taskIdentifier", min_length=1)
    description: str = ""
    required_secrets: list[Requirement] = Field(default_factory=list, alias="requiredSecrets")
    required_configs: list[Requirement] = Field(default_factory=list, alias="requiredConfigs")
    payload_schema: dict[str, Any] = Field(default_factory=dict, alias="payloadSchema")
    outputs: list[dict[str, Any]] = Field(default_factory=list)

    @property
    def task(self) -> str:
        """The task identifier."""
        return self.task_identifier or self.name

    @classmethod
    def read(cls, path: Path) -> "HandlerJson":
        """Read a file.

        Raises:
            LoadError: The file is missing, is not JSON, or lacks a field.
        """
        try:
            return cls.model_validate(read_object(path))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(str(part) for part in first["loc"])
            raise LoadError(f"{path}: {field}: {first['msg']}: correct the field") from None


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        LoadError: The file is missing or has no JSON object.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise LoadError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise LoadError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise LoadError(f"{path} must be a JSON object with name, version and taskIdentifier")
    return content
