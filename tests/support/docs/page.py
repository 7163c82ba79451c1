"""Run a page of the documentation block by block, as a reader would: Python, SQL, blueprints, terminal sessions."""

import ast
import inspect
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import yaml

from jobfn.devserver.state import DevState
from jobfn.testing import DrainJobs, JobsDatabase
from jobfn.testing.database import LoopThread
from jobfn.triggers import apply_triggers, load_blueprints
from support.commands import RunningCommand, Spawn
from support.docs.blocks import Block, ShellCommand, parse_session
from support.docs.skips import check_skipped_command

BIN = Path(sys.executable).parent
_FILE_NAME = re.compile(r"(?:#|--) ([\w-]+\.\w+)\n")
#: Programs that are run, all from this environment. ``_run_builtin`` handles others.
PROGRAMS = {"jobfn", "python", "pytest", "ruff", "mypy", "cp"}
#: Commands that run until the next one of them starts: the line that shows that they are ready, and more arguments.
SERVERS = {
    "make demo": ("looking for jobs", []),
    "jobfn dev": ("looking for jobs", ["--port", "0", "--dashboard-port", "0"]),
    "jobfn dashboard": ("dashboard  http", ["--port", "0"]),
    "jobfn mcp --http": ("mcp  http", ["--port", "0"]),
    "jobfn service --only scheduler": ("scheduler started", []),
    "jobfn service": ("looking for jobs", []),
}
#: Matches any text in output. A page writes ``...`` at the end of a line.
WILDCARD = "\0"
#: URL of the function app in pages. Here it has another port.
_FUNCTION_URL = "http://127.0.0.1:8080"


@dataclass
class PageEnvironment:
    """Environment of a page, and how it differs from the reader's.

    Attributes:
        folder: Working directory.
        dsn: Its database.
        connection: Connection to the database.
        spawn: Starts commands.
        variables: Environment variables of its terminal.
        roles: Database roles to drop at the end.
        path: Folders in front of ``PATH``, with programs that do nothing.
        substitutions: Patterns in the page's text and their replacements.
    """

    folder: Path
    dsn: str
    connection: "asyncpg.Connection[Any]"
    spawn: Spawn
    variables: dict[str, str] = field(default_factory=dict)
    roles: list[str] = field(default_factory=list)
    path: list[str] = field(default_factory=list)
    substitutions: dict[str, str] = field(default_factory=dict)

    def substitute(self, text: str) -> str:
        """Apply the substitutions to a text."""
        for pattern, replacement in self.substitutions.items():
            text = re.sub(pattern, lambda _, replacement=replacement: replacement, text)  # type: ignore[misc]
        return text


class PageRunner:
    """Run the blocks of one page in order."""

    def __init__(self, environment: PageEnvironment) -> None:
        self._environment = environment
        self._folder = environment.folder
        self._loop = LoopThread()
        self._server: RunningCommand | None = None
        self._exit_code = 0
        self._modules = {"page"}
        database = JobsDatabase(environment.dsn, self._loop)
        self._module = types.ModuleType("page")
        vars(self._module).update(
            dsn=environment.dsn, connection=environment.connection, drain_jobs=DrainJobs(database)
        )

    async def run(self, block: Block) -> None:
        """Run one block."""
        file_name = _FILE_NAME.match(block.text)
        if file_name is not None:
            (self._folder / file_name[1]).write_text(block.text)
        match block.language:
            case "python" if file_name is not None and file_name[1].startswith("test_"):
                pass  # The page runs pytest itself.
            case "python":
                await self._run_python(block.text, module=Path(file_name[1]).stem if file_name is not None else None)
            case "sql":
                await self._environment.connection.execute(block.text)
            case "console":
                for command in parse_session(block.text):
                    await self._run_command(command)
            case "yaml":
                await self._apply_blueprint(block.text)
            case "json" | "ndjson":
                _parse_json(block)
            case "js" if shutil.which("node"):  # Its imports are the platform's packages: check only the syntax.
                node = ["node", "--check", "--input-type=module", "-"]
                subprocess.run(node, input=block.text, text=True, check=True)  # noqa: ASYNC221

    def close(self) -> None:
        """Remove the page's modules."""
        self._loop.close()
        for name in self._modules:
            sys.modules.pop(name, None)

    async def _run_python(self, text: str, *, module: str | None) -> None:
        target = self._module
        if module is not None:
            target = sys.modules[module] = types.ModuleType(module)
            self._modules.add(module)
            target.__file__ = str(self._folder / f"{module}.py")
        else:
            sys.modules["page"] = target
        code = compile(text, getattr(target, "__file__", None) or "page", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = eval(code, vars(target))  # noqa: S307  - code of the documentation
        if inspect.isawaitable(result):
            await result

    async def _apply_blueprint(self, text: str) -> None:
        """Apply a blueprint, or the conditions of one, and roll back."""
        blueprint = yaml.safe_load(text)
        if "conditions" in blueprint:
            node = {"$type": "DataJobTrigger", "data": {"task_identifier": "x", "events": ["UPDATE"], **blueprint}}
            blueprint = {"table_name": "invoices", "nodes": [node]}
        file = self._folder / "blueprint.json"
        file.write_text(json.dumps(blueprint))
        transaction = self._environment.connection.transaction()
        await transaction.start()
        plan = await apply_triggers(self._environment.connection, load_blueprints([file]).tables)
        await transaction.rollback()
        assert plan.changes, "the blueprint creates no trigger"

    async def _run_command(self, command: ShellCommand) -> None:
        words = [self._environment.substitute(word) for word in command.words]
        words[0] = words[0].removeprefix(".venv/bin/")
        variables = {name: self._environment.substitute(value) for name, value in command.variables.items()}
        if "--command" in words:  # The command of a pod runs here.
            check_skipped_command([*words[: words.index("--command")], "get"], self._folder)
            pod_variables = [word.removeprefix("--env=") for word in words if word.startswith("--env=")]
            variables |= dict(variable.split("=", 1) for variable in pod_variables)
            words = words[words.index("--") + 1 :]
        output = await self._run_builtin(words, command)
        if output is None:
            if words[:2] != ["make", "demo"] and check_skipped_command(words, self._folder):
                return
            assert words[0] in {*PROGRAMS, "make"}, f"$ {command.text}\nis neither run nor listed in skips.py"
            output = await self._run_program(words, variables, command)
        self._check_output(command, output)

    def _check_output(self, command: ShellCommand, output: str) -> None:
        """Check that the output has the page's lines in their order."""
        position = 0
        for line in command.output:
            expected = re.sub(r"\.\.\.$", WILDCARD, self._environment.substitute(line).rstrip())
            pattern = ".*".join(re.escape(part) for part in expected.split(WILDCARD))
            match = re.compile(pattern).search(output, position)
            assert match, f"$ {command.text}\ndoes not print {expected!r} (in this place):\n{output}"
            position = match.end()

    async def _run_builtin(self, words: list[str], command: ShellCommand) -> str | None:
        """Run a shell builtin, curl, or a command with a redirection. Return None for another command."""
        match words:
            case ["cd", path]:
                self._folder = (self._folder / path).resolve()
            case ["echo", "$?"]:
                return str(self._exit_code)
            case ["export", assignment]:
                name = assignment.partition("=")[0]
                script = ["sh", "-c", f'{command.text}; printf %s "${name}"']
                shell = subprocess.run(script, capture_output=True, text=True, check=True, env=self._variables({}))  # noqa: ASYNC221
                self._environment.variables[name] = shell.stdout
            case ["mkdir", path]:
                (self._folder / path).mkdir()
            case ["jobfn", "db", "shell", "<", file]:
                script = [str(BIN / "jobfn"), "db", "shell"]
                text = (self._folder / file).read_text()
                shell = subprocess.run(  # noqa: ASYNC221
                    script, input=text, capture_output=True, text=True, check=False, env=self._variables({})
                )
                assert shell.returncode == 0, shell.stderr
                return shell.stdout
            case ["curl", *arguments]:
                return await self._run_curl(arguments)
            case _:
                return None
        return ""

    async def _run_curl(self, arguments: list[str]) -> str:
        """Run curl with -H, -d and a URL."""
        (url,) = [word for word in arguments if word.startswith("http")]
        if url.startswith(_FUNCTION_URL):
            state = DevState.find(self._folder)
            assert state is not None, "jobfn dev does not run"
            url = url.replace(_FUNCTION_URL, state.function_url.rstrip("/"))
        options = dict(itertools.pairwise(arguments))
        name, _, value = options.get("-H", "X-Nothing: 1").partition(": ")
        async with httpx.AsyncClient(headers={name: value}) as client:
            response = await (client.post(url, content=options["-d"]) if "-d" in options else client.get(url))
        assert response.status_code == 200, response.text
        return response.text

    async def _run_program(self, words: list[str], variables: dict[str, str], command: ShellCommand) -> str:
        ready_line, arguments = next(
            (server for prefix, server in SERVERS.items() if words[: len(prefix.split())] == prefix.split()), ("", [])
        )
        if ready_line and self._server is not None:
            # A reader presses Ctrl-C. make forwards SIGTERM but not SIGINT.
            self._server.send(signal.SIGTERM)
            assert await self._server.wait() in {0, -signal.SIGTERM}
            self._server = None
        match words[0]:
            case "make":
                demo_arguments = f"DEMO_ARGS=--port 0 --database-url '{self._environment.dsn}'"
                words = ["make", "--old-file=setup-demo", *words[1:], demo_arguments]
            case "jobfn" if words[1] == "dev":
                words += ["--database-url", self._environment.dsn]
            case "pytest":
                words = ["python", "-m", "pytest", "-p", "no:cacheprovider", *words[1:]]
            case "ruff" | "mypy":
                words = [str(BIN / words[0]), *words[1:]]
        running = await self._environment.spawn(*words, *arguments, **self._variables(variables))
        if ready_line:
            self._server = running
            await running.until(ready_line)
            return "\n".join(running.lines)
        self._exit_code = await running.wait(seconds=120)
        output = "\n".join(running.lines)
        assert self._exit_code in command.exit_codes, f"$ {command.text}\nexited with {self._exit_code}:\n{output}"
        return output

    def _variables(self, variables: dict[str, str]) -> dict[str, str]:
        defaults = {
            "PWD": str(self._folder),
            "DATABASE_URL": self._environment.dsn,
            "PYTHONPATH": str(self._folder),
            "PATH": os.pathsep.join([*self._environment.path, str(BIN), os.environ["PATH"]]),
            "INTERNAL_JOBS_CALLBACK_PORT": "0",
            "JOBFN_TEST_DATABASE_URL": self._environment.dsn,
        }
        return {**defaults, **self._environment.variables, **variables}


def _parse_json(block: Block) -> None:
    for text in block.text.splitlines() if block.language == "ndjson" else [block.text]:
        json.loads(text)
