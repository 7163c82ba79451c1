"""Messages about exceptions without a text name their type."""

import ast
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from jobfn.errors import DatabaseUnreachable, GraphQLError, error_text
from jobfn.function.graphql import GraphQL
from jobfn.http.client import transport_error
from jobfn.operations.statements import translate_errors
from support.docs.blocks import ROOT


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("wrong"), "wrong"),
        (ValueError(), "ValueError"),
        (ValueError(" "), "ValueError"),
        (asyncpg.InterfaceError(""), "InterfaceError"),
        (TimeoutError(), "no response in time"),
        (TimeoutError("late"), "late"),
        (ConnectionResetError(), "ConnectionResetError"),
    ],
)
def test_error_text(error: Exception, text: str) -> None:
    assert error_text(error) == text


def test_lost_connection_of_an_operation_has_a_reason() -> None:
    with pytest.raises(DatabaseUnreachable) as caught, translate_errors("app_jobs"):
        raise asyncpg.InterfaceError("")
    assert str(caught.value).startswith("the connection to the database was lost (InterfaceError): try again")


@pytest.mark.parametrize("error", [ValueError(), RuntimeError()])
def test_failed_request_has_a_reason(error: Exception) -> None:
    failed = transport_error("http://h/t", aiohttp.ClientTimeout(), error)
    assert str(failed) == f"POST http://h/t failed: {type(error).__name__}"


async def test_silent_graphql_endpoint_has_a_reason() -> None:
    from gql.transport.exceptions import TransportConnectionFailed  # noqa: PLC0415  - slow to import

    class Silent:
        async def execute(self, _request: object) -> dict[str, object]:
            raise TransportConnectionFailed

    endpoint = GraphQL("http://h/graphql", {})
    endpoint._session = Silent()  # noqa: SLF001  - the library's own session always sends a text
    with pytest.raises(GraphQLError) as caught:
        await endpoint.execute("{ me }")
    assert str(caught.value).startswith("http://h/graphql did not respond: TransportConnectionFailed")


def alternatives_to_exceptions(path: Path) -> list[int]:
    """Return the lines with `error or ...`: an exception is true, even if its text is empty."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FormattedValue)
        and isinstance(node.value, ast.BoolOp)
        and ast.unparse(node.value.values[-1]).startswith("type(")
    ]


def test_no_message_tests_the_exception_instead_of_its_text() -> None:
    found = {str(path): lines for path in (ROOT / "src").rglob("*.py") if (lines := alternatives_to_exceptions(path))}
    assert found == {}
