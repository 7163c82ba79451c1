"""One page of the documentation, run block after block, as its reader would: Python, SQL, blueprints, a terminal."""

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
from jobfn.testing import JobsDatabase, DrainJobs
from jobfn.testing.database import LoopThread
from jobfn.triggers import apply_triggers, load_blueprints
from support.commands import RunningCommand, Spawn
from support.docs.blocks import Block, Line, session
from support.docs.skips import checked_otherwise

BIN = Path(sys.executable).parent
_FILE = re.compile(r"(?:#|--) ([\w-]+\.\w+)\n")
#: What a page runs for real, beside what ``_builtin`` does. All of it is this environment's.
PROGRAMS = {"jobfn", "python", "pytest", "ruff", "mypy", "cp"}
#: What keeps running until the next of them begins: the words that say it is at work, and what makes it fit for a test.
SERVERS = {
    "make demo": ("looking for jobs", []),
    "jobfn dev": ("looking for jobs", ["--port", "0", "--dashboard-port", "0"]),
    "jobfn dashboard": ("dashboard  http", ["--port", "0"]),
    "jobfn service --only scheduler": ("scheduler started", []),
    "jobfn service": ("looking for jobs", []),
}
#: Stands in ``Stage.shown`` for what is another thing each time; at the end of a line, ``...`` says the same.
ANYTHING = "\0"
#: What the page's reader sees at an address where here something else is.
_FUNCTION = "http://127.0.0.1:8080"


@dataclass
class Stage:
    """Where a page is run, and what of it is another here than for its reader.

    Attributes:
        folder: Where its files are written.
        dsn: Its database.
        connection: To that database.
        spawn: Starts commands.
        variables: What is set in its terminals.
        roles: Roles of the server's that are to go at the end.
        programs: Folders of programs that stand in for others.
        shown: Patterns of what the page shows, and what stands in their place here.
    """

    folder: Path
    dsn: str
    connection: "asyncpg.Connection[Any]"
    spawn: Spawn
    variables: dict[str, str] = field(default_factory=dict)
    roles: list[str] = field(default_factory=list)
    programs: list[str] = field(default_factory=list)
    shown: dict[str, str] = field(default_factory=dict)

    def here(self, text: str) -> str:
        """What the page shows, as it is here."""
        for pattern, instead in self.shown.items():
            text = re.sub(pattern, lambda _, instead=instead: instead, text)  # type: ignore[misc]
        return text


class Page:
    """One page's blocks, run one after the other."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._folder = stage.folder
        self._loop = LoopThread()
        self._server: RunningCommand | None = None
        self._code = 0
        database = JobsDatabase(stage.dsn, self._loop)
        names = {"dsn": stage.dsn, "connection": stage.connection, "drain_jobs": DrainJobs(database)}
        self._module = types.ModuleType("page")
        vars(self._module).update(names)

    async def run(self, block: Block) -> None:
        """Run one block."""
        file = _FILE.match(block.text)
        if file is not None:
            (self._folder / file[1]).write_text(block.text)
        match block.language:
            case "python" if file is not None and file[1].startswith("test_"):
                pass  # run by the page's own pytest command
            case "python":
                await self._python(block.text, module=file[1].removesuffix(".py") if file is not None else None)
            case "sql":
                await self._stage.connection.execute(block.text)
            case "console":
                for line in session(block.text):
                    await self._command(line)
            case "yaml":
                await self._apply(block.text)
            case "json":
                json.loads(block.text)
            case "js" if shutil.which("node"):  # what it imports is the platform's: Node says whether it is JavaScript
                command = ["node", "--check", "--input-type=module", "-"]
                subprocess.run(command, input=block.text, text=True, check=True)  # noqa: ASYNC221  - a moment

    def close(self) -> None:
        """Forget the page's modules."""
        self._loop.close()
        for name in ("functions", "page"):
            sys.modules.pop(name, None)

    async def _python(self, text: str, *, module: str | None) -> None:
        target = self._module
        if module is not None:
            target = sys.modules[module] = types.ModuleType(module)
            target.__file__ = str(self._folder / f"{module}.py")
        else:
            sys.modules["page"] = target
        code = compile(text, getattr(target, "__file__", None) or "page", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        found = eval(code, vars(target))  # noqa: S307  - the documentation's own code
        if inspect.isawaitable(found):
            await found

    async def _apply(self, text: str) -> None:
        """A blueprint, or the part of one that says when: applied to the page's tables, and taken back."""
        said = yaml.safe_load(text)
        if "conditions" in said:
            node = {"$type": "DataJobTrigger", "data": {"task_identifier": "x", "events": ["UPDATE"], **said}}
            said = {"table_name": "invoices", "nodes": [node]}
        file = self._folder / "shown.json"
        file.write_text(json.dumps(said))
        trying = self._stage.connection.transaction()
        await trying.start()
        plan = await apply_triggers(self._stage.connection, load_blueprints([file]).tables)
        await trying.rollback()
        assert plan.changes, "the blueprint makes no trigger"

    async def _command(self, line: Line) -> None:
        words = [self._stage.here(word) for word in line.words]
        words[0] = words[0].removeprefix(".venv/bin/")
        variables = {name: self._stage.here(value) for name, value in line.variables.items()}
        if "--command" in words:  # in a container of the cluster's: what runs in there runs here
            checked_otherwise([*words[: words.index("--command")], "get"], self._folder)
            inside = [word.removeprefix("--env=") for word in words if word.startswith("--env=")]
            variables |= dict(each.split("=", 1) for each in inside)
            words = words[words.index("--") + 1 :]
        output = await self._builtin(words, line)
        if output is None:
            if words[:2] != ["make", "demo"] and checked_otherwise(words, self._folder):
                return
            assert words[0] in {*PROGRAMS, "make"}, f"$ {line.text}\nis neither run nor on the list of skips.py"
            output = await self._run(words, variables, line)
        at = 0
        for shown in line.prints:
            expected = re.sub(r"\.\.\.$", ANYTHING, self._stage.here(shown).rstrip())
            pattern = ".*".join(re.escape(part) for part in expected.split(ANYTHING))
            found = re.compile(pattern).search(output, at)
            assert found, f"$ {line.text}\nsays no {expected!r} (in this place) but:\n{output}"
            at = found.end()

    async def _builtin(self, words: list[str], line: Line) -> str | None:
        """What a shell does itself, and what stands in for programs that are not on every machine."""
        match words:
            case ["cd", where]:
                self._folder = (self._folder / where).resolve()
            case ["echo", "$?"]:
                return str(self._code)
            case ["export", given]:
                name = given.partition("=")[0]
                script = ["sh", "-c", f'{line.text}; printf %s "${name}"']
                said = subprocess.run(script, capture_output=True, text=True, check=True, env=self._variables({}))  # noqa: ASYNC221
                self._stage.variables[name] = said.stdout
            case ["psql", "-f", file]:
                await self._stage.connection.execute((self._folder / file).read_text())
            case ["curl", *rest]:
                return await self._ask(rest)
            case _:
                return None
        return ""

    async def _ask(self, words: list[str]) -> str:
        """What curl does with -H, -d and a URL."""
        (url,) = [word for word in words if word.startswith("http")]
        if url.startswith(_FUNCTION):
            state = DevState.find(self._folder)
            assert state is not None, "no jobfn dev runs here"
            url = url.replace(_FUNCTION, state.function_url.rstrip("/"))
        options = dict(itertools.pairwise(words))
        name, _, value = options.get("-H", "X-Nothing: 1").partition(": ")
        async with httpx.AsyncClient(headers={name: value}) as client:
            found = await (client.post(url, content=options["-d"]) if "-d" in options else client.get(url))
        assert found.status_code == 200, found.text
        return found.text

    async def _run(self, words: list[str], variables: dict[str, str], line: Line) -> str:
        started, extra = next(
            (found for begins, found in SERVERS.items() if words[: len(begins.split())] == begins.split()), ("", [])
        )
        if started and self._server is not None:
            # a reader has one terminal for it, and presses Ctrl-C; make hands SIGTERM on, not SIGINT
            self._server.send(signal.SIGTERM)
            assert await self._server.ended() in {0, -signal.SIGTERM}
            self._server = None
        if words[0] == "make":
            words = ["make", "--old-file=setup", *words[1:], f"DEMO_ARGS=--port 0 --database-url '{self._stage.dsn}'"]
        elif words[0] == "pytest":
            words = ["python", "-m", "pytest", "-p", "no:cacheprovider", *words[1:]]
        elif words[0] in {"ruff", "mypy"}:
            words = [str(BIN / words[0]), *words[1:]]
        running = await self._stage.spawn(*words, *extra, **self._variables(variables))
        if started:
            self._server = running
            await running.until(started)
            return "\n".join(running.lines)
        self._code = await running.ended(seconds=120)
        output = "\n".join(running.lines)
        assert self._code in line.codes, f"$ {line.text}\nended with {self._code}:\n{output}"
        return output

    def _variables(self, variables: dict[str, str]) -> dict[str, str]:
        usual = {
            "PWD": str(self._folder),
            "DATABASE_URL": self._stage.dsn,
            "PYTHONPATH": str(self._folder),
            "PATH": os.pathsep.join([*self._stage.programs, str(BIN), os.environ["PATH"]]),
            "INTERNAL_JOBS_CALLBACK_PORT": "0",
            "JOBFN_TEST_DATABASE_URL": self._stage.dsn,
        }
        return {**usual, **self._stage.variables, **variables}
