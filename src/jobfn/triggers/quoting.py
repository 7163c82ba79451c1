"""Names and values as SQL reads them. Everything a blueprint says passes through here on its way into a statement.

Pure. ``expressions.py`` and ``sql.py`` put statements together with these three functions and nothing else.
"""

#: PostgreSQL cuts longer names silently.
MAX_NAME_BYTES = 63


def name_problem(name: str) -> str | None:
    """Why PostgreSQL could not have this name; None where it can."""
    if not name:
        return "a name has at least one character"
    problem = text_problem(name)
    if problem is None and len(name.encode()) > MAX_NAME_BYTES:
        return f"a name has at most {MAX_NAME_BYTES} bytes, this one has {len(name.encode())}"
    return problem


def text_problem(text: str) -> str | None:
    """Why PostgreSQL could not hold this text; None where it can."""
    if "\0" in text:
        return "PostgreSQL holds no NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "half a surrogate pair is no character"
    return None


def quote_identifier(name: str) -> str:
    """A name, always in double quotes: no word is too reserved, no letter changes its case.

    Raises:
        ValueError: There can be no such name.
    """
    problem = name_problem(name)
    if problem is not None:
        raise ValueError(f"{name!r}: {problem}")
    return '"' + name.replace('"', '""') + '"'


def quote_literal(text: str) -> str:
    r"""A value in single quotes.

    With a backslash in it, it is an ``E''`` string, which reads the same whatever ``standard_conforming_strings`` is
    when the statement, or the function that holds it, runs.

    Raises:
        ValueError: PostgreSQL has no such text.
    """
    problem = text_problem(text)
    if problem is not None:
        raise ValueError(f"{text!r}: {problem}")
    quoted = text.replace("'", "''")
    return "E'" + quoted.replace("\\", "\\\\") + "'" if "\\" in quoted else f"'{quoted}'"


def quote_body(body: str) -> str:
    """A function's body between dollar quotes whose tag it does not hold."""
    tag, number = "$jobfn$", 0
    while tag[:-1] in body:
        number += 1
        tag = f"$jobfn{number}$"
    return f"{tag}\n{body}\n{tag}"
