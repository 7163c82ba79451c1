"""Quoting of names and values in SQL text.

Values travel as parameters wherever possible. Names, and the text of trigger functions, cannot. Pure.
"""

from jobfn.errors import ConfigurationError

#: Maximum length of a name. PostgreSQL truncates longer ones without an error.
MAX_NAME_BYTES = 63


def name_problem(name: str) -> str | None:
    """Return why a name is not valid in PostgreSQL; None if it is."""
    if not name:
        return "a name has at least one character"
    problem = text_problem(name)
    if problem is None and len(name.encode()) > MAX_NAME_BYTES:
        return f"a name has at most {MAX_NAME_BYTES} bytes, this one has {len(name.encode())}"
    return problem


def text_problem(text: str) -> str | None:
    """Return why PostgreSQL cannot store a text; None if it can."""
    if "\0" in text:
        return "PostgreSQL cannot store a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "half a surrogate pair is not a character"
    return None


def quote_identifier(name: str, *, what: str = "name") -> str:
    """Return a name in double quotes, so that reserved words and uppercase letters are allowed.

    Args:
        name: The name.
        what: The kind of name, for the error. ``schema name`` names the setting, too.

    Raises:
        ConfigurationError: The name is not valid in PostgreSQL, or it is a schema that PostgreSQL reserves.
    """
    problem = name_problem(name)
    if what == "schema name" and (name == "information_schema" or name.startswith("pg_")):
        raise ConfigurationError(f"JOBS_SCHEMA={name!r} is reserved by PostgreSQL: use another name, such as app_jobs")
    if problem is not None:
        if what == "schema name":
            raise ConfigurationError(f"JOBS_SCHEMA={name!r} is not a schema name: use 1 to 63 bytes, such as app_jobs")
        raise ConfigurationError(f"{name!r} is not a {what}: {problem}")
    return '"' + name.replace('"', '""') + '"'


def quote_literal(text: str) -> str:
    r"""Return a text in single quotes.

    A text with a backslash becomes an ``E''`` string, whose meaning does not depend on
    ``standard_conforming_strings`` when the statement, or the function that contains it, runs.

    Raises:
        ValueError: PostgreSQL cannot store the text.
    """
    problem = text_problem(text)
    if problem is not None:
        raise ValueError(f"{text!r}: {problem}")
    quoted = text.replace("'", "''")
    return "E'" + quoted.replace("\\", "\\\\") + "'" if "\\" in quoted else f"'{quoted}'"


def quote_body(body: str) -> str:
    """Return a function's body in dollar quotes, with a tag that it does not contain."""
    tag, number = "$jobfn$", 0
    while tag[:-1] in body:
        number += 1
        tag = f"$jobfn{number}$"
    return f"{tag}\n{body}\n{tag}"
