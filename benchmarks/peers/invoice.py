"""Payload of the HTTP comparisons: the same pydantic model on every server."""

from pydantic import BaseModel


class Invoice(BaseModel):
    """A small, ordinary payload."""

    id: int
    customer: str
    amount: float
    lines: list[str] = []


BODY = '{"id": 7, "customer": "Ada Lovelace", "amount": 12.5, "lines": ["a", "b"]}'
