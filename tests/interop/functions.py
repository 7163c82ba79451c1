"""The two handlers of function.js with jobfn."""

from typing import Any

from jobfn import task


@task("note")
def note(payload: dict[str, Any]) -> dict[str, Any]:
    return {"noted": payload["id"]}


@task("fail")
def fail(payload: dict[str, Any]) -> None:
    raise RuntimeError("boom")
