"""HTTP server and client: the embedded server, the pooled client, and ASGI message helpers."""
