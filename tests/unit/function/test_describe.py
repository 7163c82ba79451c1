"""Tasks as JSON Schema and OpenAPI, and ``jobfn export-schema``."""

import json
import re
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, PlainValidator

from jobfn import JobContext, Task, task
from jobfn.cli.app import run
from jobfn.function.describe import json_schema, openapi
from jobfn.payloads import RowChange


class Address(BaseModel):
    city: str


class Customer(BaseModel):
    id: int
    address: Address
    note: str | None = Field(default=None, alias="theNote")


class Receipt(BaseModel):
    number: int
    address: Address


@task("billing:charge")
async def charge(payload: Customer, ctx: JobContext) -> Receipt:
    """Charge a customer.

    More about it.
    """
    raise NotImplementedError


@task("moved", background=True)
async def moved(payload: RowChange[Customer]) -> None:
    raise NotImplementedError


@task("nothing")
def nothing(payload: None) -> "Unreadable":  # type: ignore[name-defined]  # noqa: F821
    """Without a payload."""


@task("odd")
def odd(payload: Annotated[Any, PlainValidator(lambda value: value)]) -> Any:
    """Of a type without a schema."""


TASKS: list[Task[..., Any]] = [charge, moved, nothing, odd]


def test_json_schema_has_one_property_per_task_and_shared_definitions() -> None:
    document = json_schema(TASKS)
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert list(document["properties"]) == ["billing:charge", "moved", "nothing", "odd"]
    assert document["required"] == ["billing:charge", "moved", "nothing", "odd"]
    assert document["properties"]["billing:charge"]["$ref"] == "#/$defs/Customer"
    assert set(document["$defs"]["Customer"]["properties"]) == {"id", "address", "theNote"}
    assert document["properties"]["nothing"] == {"description": "Without a payload.", "type": "null"}
    assert document["properties"]["odd"] == {"description": "Of a type without a schema."}
    assert "Address" in document["$defs"]


def test_openapi_has_one_post_per_task_with_payload_result_and_failure() -> None:
    document = openapi(TASKS, title="Shop", version="2.0")
    assert (document["openapi"], document["info"]) == ("3.1.0", {"title": "Shop", "version": "2.0"})
    post = document["paths"]["/billing:charge"]["post"]
    assert (post["operationId"], post["summary"]) == ("billing:charge", "Charge a customer.")
    assert post["requestBody"]["content"]["application/json"]["schema"]["$ref"] == "#/components/schemas/Customer"
    result = post["responses"]["200"]["content"]["application/json"]["schema"]
    assert result["$ref"] == "#/components/schemas/Receipt"
    assert list(document["paths"]["/moved"]["post"]["responses"]) == ["202", "default"]
    assert document["paths"]["/nothing"]["post"]["requestBody"]["required"] is False
    defined = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(document))) <= defined


def test_openapi_path_with_a_percent_sign_refers_to_a_component_without_operation_id() -> None:
    @task("50%_off")
    def discount(payload: Customer) -> None:
        """Lower a price."""

    document = openapi([charge, discount], title="Shop", version="2.0")
    assert document["paths"]["/50%25_off"] == {"$ref": "#/components/pathItems/task_1"}
    assert document["components"]["pathItems"]["task_1"]["post"]["summary"] == "Lower a price."
    assert "operationId" not in document["components"]["pathItems"]["task_1"]["post"]


FUNCTIONS = """
from jobfn import task

@task("greet")
def greet(payload: dict[str, int]) -> str:
    "Say hello."
    return "hello"

async def other(scope, receive, send): ...
"""


def test_export_schema_prints_or_writes_a_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "greetings.py"
    file.write_text(FUNCTIONS)
    assert run(["export-schema", str(file)]) == 0
    assert json.loads(capsys.readouterr().out)["properties"]["greet"]["additionalProperties"] == {"type": "integer"}
    out = tmp_path / "openapi.json"
    assert run(["export-schema", str(file), "--format", "openapi", "--output", str(out)]) == 0
    assert capsys.readouterr().out == f"wrote {out}: greet\n"
    assert json.loads(out.read_text())["paths"]["/greet"]["post"]["summary"] == "Say hello."


def test_export_schema_error_names_the_option_or_the_app(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "greetings2.py"
    file.write_text(FUNCTIONS)
    assert run(["export-schema", str(file), "--output", str(tmp_path / "no" / "where.json")]) == 2
    assert "--output" in capsys.readouterr().err
    assert run(["export-schema", f"{file}:other"]) == 2
    assert "is not an app of create_app" in capsys.readouterr().err
