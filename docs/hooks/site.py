"""mkdocs hooks: generate the reference pages from the code and rewrite links to files outside the docs folder.

mkdocs calls the ``on_*`` functions by name. Generated pages are not written to the repository.
"""

import functools
import importlib
import inspect
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic import AliasChoices
from reference_topics import ERRORS, TOPICS, index_page, topic_page

from jobfn import errors
from jobfn.cli.app import build_app
from jobfn.explain import explanations
from jobfn.function import agent, database, graphql
from jobfn.settings import EnvironmentSettings

_OUTSIDE = re.compile(r"\]\((?:\.\./)+(?!reference/|how-to/)([^)#]+)")
#: Images outside the docs folder. The site has copies of them in the same folders.
_IMAGES = "benchmarks/results/*.svg"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Remove missing pages from the navigation."""
    generated = set(GENERATED)
    pages = Path(config.docs_dir)
    config.nav = _there(config.nav or [], lambda page: page in generated or (pages / page).is_file())
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the generated pages and the images outside the docs folder."""
    for name, make in GENERATED.items():
        files.append(File.generated(config, name, content=make()))
    root = Path(config.docs_dir).parent
    for image in sorted(root.glob(_IMAGES)):
        files.append(File.generated(config, image.relative_to(root).as_posix(), abs_src_path=str(image)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to files outside the docs folder at the copy in the site, or at the repository."""

    def target(match: re.Match[str]) -> str:
        path = match[1]
        if Path(config.docs_dir, path).exists():
            return match[0]
        if files.get_file_from_path(path) is not None:
            return f"]({os.path.relpath(path, Path(page.file.src_uri).parent)}"
        kind = "tree" if Path(config.docs_dir).parent.joinpath(path).is_dir() else "blob"
        return f"]({(config.repo_url or '').rstrip('/')}/{kind}/main/{path}"

    return _OUTSIDE.sub(target, markdown)


def on_post_page(output: str, *, page: Page, config: MkDocsConfig) -> str:
    """Turn off the theme's request to GitHub."""
    del page, config
    return _without_request_to_github(output)


def on_post_template(output_content: str, *, template_name: str, config: MkDocsConfig) -> str:
    """Turn off the theme's request to GitHub on the page for errors."""
    del template_name, config
    return _without_request_to_github(output_content)


def _without_request_to_github(html: str) -> str:
    """Leave the link to the repository, and remove the mark by which the theme's script adds its number of stars."""
    return html.replace(' data-md-component="source"', "")


def on_post_build(config: MkDocsConfig) -> None:
    """Check that the page and the anchor that each error names exist.

    Raises:
        PluginError: A page or an anchor is missing.
    """
    for each in explanations().values():
        page, _, anchor = each.url.removeprefix(errors.DOCS_URL).partition("#")
        file = Path(config.site_dir, page, "index.html")
        if not file.is_file() or (anchor and f'id="{anchor}"' not in file.read_text("utf-8")):
            raise PluginError(f"{each.title} names {each.url}, which the site does not have")


def settings_page() -> str:
    """Return the page of the settings models: every environment variable that one of them reads."""
    parts = [
        "# Settings models",
        "",
        (
            "The variables that the settings models read, with their defaults, generated from the code. "
            "[Settings](../settings.md) lists all variables by topic, with units."
        ),
        "",
    ]
    for title, name in (
        ("Function", "jobfn.function.settings"),
        ("Worker, callback server and scheduler", "jobfn.worker.settings"),
        ("Dashboard", "jobfn.dashboard.settings"),
        ("Assistants (MCP)", "jobfn.mcp.settings"),
    ):
        for model in _classes(name, EnvironmentSettings):
            described = dict(
                re.findall(r"^ {8}(\w+): (.+?)(?=^ {8}\w+: |\Z)", model.__doc__ or "", re.MULTILINE | re.DOTALL)
            )
            parts += [f"## {title}", "", "| variable | default | meaning |", "|---|---|---|"]
            for field, info in model.model_fields.items():
                alias = info.validation_alias
                if alias is None:
                    continue  # set in code only
                names = alias.choices if isinstance(alias, AliasChoices) else [alias]
                default = "" if info.default_factory is not None or info.is_required() else info.default
                words = _cell(_meaning(described.get(field, "")))
                variables = " or ".join(f"`{each}`" for each in names)
                parts.append(f"| {variables} | {_default(default)} | {words} |")
            parts.append("")
    parts += [
        "## Connections of handlers",
        "",
        "`ctx.graphql`, `ctx.meta` and `ctx.db` read these: see [tenants](../how-to/tenants.md).",
        "",
        *("| variable | meaning |", "|---|---|"),
        *(
            f"| `{name}` | {_cell(text)} |"
            for module in (graphql, database, agent)
            for name, text in module.VARIABLES.items()
        ),
    ]
    return "\n".join(parts)


def commands_page() -> str:
    """Return the page of commands with their arguments and options."""
    parts = [
        "# Commands",
        "",
        (
            "Exit codes: 0 done; 1 failed; 2 wrong use; 3 a check failed; 4 some jobs were skipped; 5 the followed job "
            "permanently failed; 124 it has not ended in time; 130 interrupted. "
            "[Operations](../operations.md#exit-codes) explains them."
        ),
        "",
    ]
    group = typer.main.get_command(build_app())
    for path, command in _commands(group, ["jobfn"]):
        parts += [f"## `{' '.join(path)}`", "", inspect.cleandoc(command.help or ""), ""]
        epilog = getattr(command, "epilog", None)
        rows = [_option(parameter) for parameter in command.params if not getattr(parameter, "hidden", False)]
        if rows:
            parts += ["| | |", "|---|---|", *rows, ""]
        if epilog:
            _, _, examples = epilog.partition("\n")
            parts += ["```console", *(line.removeprefix("  ") for line in examples.splitlines()[1:]), "```", ""]
    return "\n".join(parts)


def errors_page() -> str:
    """Return the page of exceptions; the note of an error links to its section."""
    parts = [
        "# Errors",
        "",
        (
            "Every exception of jobfn is a `jobfn.JobfnError`. Its message says what to do; a note links to this page. "
            "Lines of the command line end with a code (`[J105]`), and HTTP answers have it in the field `code`. "
            "`jobfn explain CODE` prints the same as this page."
        ),
        "",
    ]
    for _, error in inspect.getmembers(errors, inspect.isclass):
        if issubclass(error, errors.JobfnError):
            status = getattr(error, "status_code", None)
            base = error.__mro__[1].__name__
            parts += [
                f"## {error.__name__}",
                "",
                f"Code {error.code}. A `{base}`." + (f" Answered with HTTP {status}." if status else ""),
            ]
            parts += ["", inspect.cleandoc(error.__doc__ or "").split("\n\nArgs:")[0].split("\n\nAttributes:")[0], ""]
            if error.page is not None and not error.page.startswith("reference/errors"):
                parts += [f"Read: [{error.page}](../{error.page}.md)", ""]
    for answer in explanations().values():
        if answer.url.endswith(f"#{answer.code.lower()}"):
            parts += [f"## {answer.title} {{ #{answer.code.lower()} }}", "", f"Code {answer.code}. {answer.text}", ""]
    return "\n".join(parts)


GENERATED: dict[str, Callable[[], str]] = {
    "reference/python.md": index_page,
    **{topic.page: functools.partial(topic_page, topic) for topic in TOPICS if topic is not ERRORS},
    "reference/settings.md": settings_page,
    "reference/commands.md": commands_page,
    "reference/errors.md": errors_page,
}


def _there(nav: list[Any], is_there: Callable[[str], bool]) -> list[Any]:
    kept: list[Any] = []
    for entry in nav:
        if isinstance(entry, str):
            kept += [entry] if is_there(entry) else []
            continue
        for title, what in entry.items():
            inner = _there(what, is_there) if isinstance(what, list) else (what if is_there(what) else None)
            kept += [{title: inner}] if inner else []
    return kept


def _classes(module: str, base: type) -> list[Any]:
    home = importlib.import_module(module)
    return [
        found
        for _, found in inspect.getmembers(home, inspect.isclass)
        if found.__module__ == module and issubclass(found, base)
    ]


def _commands(command: Any, path: list[str]) -> list[tuple[list[str], Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        return [(path, command)]
    return [found for name, each in inner.items() if not each.hidden for found in _commands(each, [*path, name])]


def _option(parameter: Any) -> str:
    names = (
        ", ".join(f"`{each}`" for each in parameter.opts)
        if parameter.opts[0].startswith("-")
        else f"`{(parameter.metavar or parameter.name).upper()}`"
    )
    return f"| {names} | {_cell(getattr(parameter, 'help', '') or '')} |"


def _cell(text: str) -> str:
    return " ".join(text.replace("``", "`").split()).replace("|", "\\|")


def _meaning(text: str) -> str:
    """Return the meaning of a setting from its docstring, without the leading variable and default."""
    meaning = re.sub(r"^``\w+``(?:[^:]*?default [^:]*)?: ", "", text)
    return meaning[:1].upper() + meaning[1:]


def _default(value: object) -> str:
    value = getattr(value, "value", value)
    return "" if value is None or value == "" else f"`{str(value).lower() if isinstance(value, bool) else value}`"
