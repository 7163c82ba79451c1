"""``ctx.graphql`` and ``ctx.meta``: the platform's GraphQL endpoints, with the headers of the platform's own functions.

The environment variables (``VARIABLES``) are those of the platform's functions. Requests go through the ``gql``
library (extra ``graphql``), which is imported on first use.
"""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from jobfn.errors import ConfigurationError, GraphQLError, error_text
from jobfn.install import install_command
from jobfn.wire import DATABASE_ID, redact_url

API_NAME = "X-Api-Name"
SCHEMATA = "X-Schemata"
META_SCHEMA = "X-Meta-Schema"
TIMEOUT_SECONDS = 30.0

#: Environment variables and their meaning, for the settings reference.
VARIABLES: Final[Mapping[str, str]] = {
    "GRAPHQL_URL": "URL of ``ctx.graphql``.",
    "META_GRAPHQL_URL": "URL of ``ctx.meta``. Default: ``GRAPHQL_URL``.",
    "GRAPHQL_AUTH_TOKEN": "Sent to both as ``Authorization: Bearer ...``. Default: none.",
    "GRAPHQL_API_NAME": "``X-Api-Name`` of ``ctx.graphql``. Default: not sent.",
    "GRAPHQL_SCHEMATA": "``X-Schemata`` of ``ctx.graphql``. Default: not sent.",
    "GRAPHQL_HOST_HEADER": "``Host`` of ``ctx.graphql``. Default: that of the URL.",
    "META_GRAPHQL_HOST_HEADER": "``Host`` of ``ctx.meta``. Default: that of the URL.",
}


class GraphQL:
    """A GraphQL endpoint, for one job. It connects with the first request and closes with the job."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self.url = url
        self.headers = dict(headers)
        self._session: Any = None
        self._client: Any = None

    def __repr__(self) -> str:
        return f"<GraphQL {redact_url(self.url)}>"

    async def execute(
        self, query: str, variables: Mapping[str, Any] | None = None, *, operation_name: str | None = None
    ) -> dict[str, Any]:
        """Run a query or a mutation and return the response's ``data``.

        Args:
            query: The document.
            variables: Its variables, JSON-serializable.
            operation_name: The operation to run, if the document has several.

        Raises:
            GraphQLError: The document is invalid, or the endpoint returned errors or did not respond.
            ConfigurationError: The ``gql`` library is not installed.
        """
        gql, exceptions, syntax_error = _import_library()
        session = self._session or await self._connect()
        try:
            request = gql.GraphQLRequest(query, variable_values=variables, operation_name=operation_name)
            data: dict[str, Any] = await session.execute(request)
        except syntax_error as error:
            raise GraphQLError(f"the query is not valid GraphQL: {error.message}") from error
        except exceptions.TransportQueryError as error:
            messages = "; ".join(str(entry.get("message", entry)) for entry in error.errors or [])
            raise GraphQLError(f"{redact_url(self.url)} returned errors: {messages}", errors=error.errors) from error
        except exceptions.TransportError as error:
            raise GraphQLError(f"{redact_url(self.url)} did not respond: {error_text(error)}") from error
        return data

    async def aclose(self) -> None:
        """Close the connection, if one is open."""
        if self._client is not None:
            client, self._client, self._session = self._client, None, None
            await client.close_async()

    async def _connect(self) -> Any:
        from gql import Client  # noqa: PLC0415  - an extra
        from gql.transport.httpx import HTTPXAsyncTransport  # noqa: PLC0415  - as above

        transport = HTTPXAsyncTransport(self.url, headers=self.headers, timeout=TIMEOUT_SECONDS)
        self._client = Client(transport=transport, execute_timeout=TIMEOUT_SECONDS)
        self._session = await self._client.connect_async()
        return self._session


def tenant_endpoint(env: Mapping[str, str], database_id: UUID | None) -> GraphQL:
    """Return the endpoint of the tenant's data: ``ctx.graphql``."""
    return GraphQL(
        _url(env, "GRAPHQL_URL"),
        _headers(
            env,
            {
                DATABASE_ID: str(database_id) if database_id is not None else None,
                API_NAME: env.get("GRAPHQL_API_NAME"),
                SCHEMATA: env.get("GRAPHQL_SCHEMATA"),
                "Host": env.get("GRAPHQL_HOST_HEADER"),
            },
        ),
    )


def meta_endpoint(env: Mapping[str, str]) -> GraphQL:
    """Return the endpoint of the platform's own data: ``ctx.meta``."""
    return GraphQL(
        _url(env, "META_GRAPHQL_URL", "GRAPHQL_URL"),
        _headers(env, {META_SCHEMA: "true", "Host": env.get("META_GRAPHQL_HOST_HEADER")}),
    )


def _url(env: Mapping[str, str], *names: str) -> str:
    for name in names:
        url = env.get(name)
        if url:
            if not url.startswith(("http://", "https://")):
                raise ConfigurationError(f"{name} must be a URL that begins with http:// or https://")
            return url
    raise ConfigurationError(
        f"no GraphQL endpoint: set {' or '.join(names)}, for example http://graphql-server:3000/graphql "
        "(and GRAPHQL_AUTH_TOKEN, if it requires one)"
    )


def _headers(env: Mapping[str, str], optional: Mapping[str, str | None]) -> dict[str, str]:
    token = env.get("GRAPHQL_AUTH_TOKEN")
    headers = {"Authorization": f"Bearer {token}" if token else None, **optional}
    return {name: value for name, value in headers.items() if value}


def _import_library() -> tuple[Any, Any, Any]:
    try:
        import gql  # noqa: PLC0415  - an extra
        from gql.transport import exceptions  # noqa: PLC0415  - as above
        from graphql import GraphQLSyntaxError  # noqa: PLC0415  - as above
    except ImportError:
        raise ConfigurationError(f"ctx.graphql needs the gql library: {install_command('graphql')}") from None
    return gql, exceptions, GraphQLSyntaxError
