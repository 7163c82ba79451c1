"""Types for TypeScript, generated from what ``jobfn export-schema`` writes and checked by the compiler.

``make interop`` installs the generators and the compiler, and runs these tests.
"""

import subprocess
from pathlib import Path

import pytest

from jobfn.cli.app import run

pytestmark = pytest.mark.external

NODE_MODULES = Path(__file__).parent / "node_modules"
FUNCTIONS = """
from pydantic import BaseModel

from jobfn import task

class Invoice(BaseModel):
    id: int

@task("process_invoice")
def process_invoice(payload: Invoice) -> dict[str, bool]: ...

@task("50%_off")
def discount(payload: Invoice) -> Invoice: ...

@task("a/b c{x}?#é")
def odd(payload: dict[str, int]) -> None: ...

@task("nothing")
def nothing(payload: None) -> None: ...
"""


@pytest.fixture
def functions(tmp_path: Path) -> Path:
    file = tmp_path / "functions_for_typescript.py"
    file.write_text(FUNCTIONS)
    return file


def generate(tool: str, *arguments: str | Path) -> str:
    """Run a type generator and return its output."""
    command: list[str | Path] = [NODE_MODULES / ".bin" / tool, *arguments]
    process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert process.returncode == 0, process.stderr
    return process.stdout


def compile_errors(program: Path) -> list[str]:
    """Return the lines that the compiler, with its strict options, complains about, each with the error's code."""
    command = [str(NODE_MODULES / ".bin" / "tsc"), "--strict", "--noEmit", "--pretty", "false", program.name]
    process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=program.parent)
    lines = program.read_text().splitlines()
    errors = []
    for line in process.stdout.splitlines():
        location, _, message = line.partition(": error ")
        assert location.startswith(f"{program.name}("), process.stdout
        number = int(location.removeprefix(f"{program.name}(").partition(",")[0])
        errors.append(f"{message.partition(':')[0]} {lines[number - 1]}")
    return errors


def test_payload_of_a_task_is_required(functions: Path, tmp_path: Path) -> None:
    assert run(["export-schema", str(functions), "--output", str(tmp_path / "payloads.json")]) == 0
    (tmp_path / "payloads.d.ts").write_text(generate("json2ts", tmp_path / "payloads.json"))
    program = tmp_path / "program.ts"
    program.write_text("""\
import type { Payloads } from "./payloads";
declare function add<Task extends keyof Payloads>(task: Task, payload: Payloads[Task]): void;
add("process_invoice", { id: 1 });
add("50%_off", { id: 1 });
add("a/b c{x}?#é", { count: 1 });
add("nothing", null);
add("process_invoice", undefined);
add("process_invoice", { id: "1" });
add("nothing", undefined);
add("unknown", null);
""")
    assert compile_errors(program) == [
        'TS2345 add("process_invoice", undefined);',
        'TS2322 add("process_invoice", { id: "1" });',
        'TS2345 add("nothing", undefined);',
        'TS2345 add("unknown", null);',
    ]


def test_openapi_document_of_tasks_with_unusual_names_is_readable(functions: Path, tmp_path: Path) -> None:
    document = tmp_path / "openapi.json"
    assert run(["export-schema", str(functions), "--format", "openapi", "--output", str(document)]) == 0
    (tmp_path / "functions.d.ts").write_text(generate("openapi-typescript", document))
    program = tmp_path / "program.ts"
    program.write_text("""\
import type { operations, paths } from "./functions";
type Body<Path extends keyof paths> =
    paths[Path] extends { post: { requestBody: { content: { "application/json": infer Json } } } } ? Json : never;
const invoice: Body<"/process_invoice"> = { id: 1 };
const discount: Body<"/50%25_off"> = { id: 1 };
const odd: Body<"/a%2Fb%20c%7Bx%7D%3F%23%C3%A9"> = { count: 1 };
const same: operations["process_invoice"] = {} as paths["/process_invoice"]["post"];
const wrong: Body<"/50%25_off"> = { id: "1" };
""")
    assert compile_errors(program) == ['TS2322 const wrong: Body<"/50%25_off"> = { id: "1" };']
