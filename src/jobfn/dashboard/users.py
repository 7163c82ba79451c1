"""Users of the dashboard: each has a name, a role and a token."""

import hmac
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from jobfn.settings import MIN_SECRET_CHARACTERS, SHORT_SECRET

#: Maximum length of a user's name.
MAX_NAME_CHARACTERS: Final = 64
#: Maximum number of users.
MAX_USERS: Final = 100
#: Name in pauses and logs for people without a name.
ANYONE: Final = "the dashboard"
_SYNTAX: Final = "write NAME:ROLE:TOKEN, separated by commas, with the role viewer or operator"


class Role(StrEnum):
    """Role of a user."""

    VIEWER = "viewer"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class User:
    """A user of the dashboard."""

    name: str
    role: Role
    token: str = field(repr=False)


def parse_users(text: str) -> tuple[User, ...]:
    """Parse ``ada:operator:TOKEN,screen:viewer:TOKEN``.

    Raises:
        ValueError: An entry is invalid. The message quotes no token.
    """
    users = tuple(_parse_user(number, entry.strip()) for number, entry in enumerate(text.split(","), start=1))
    if len(users) > MAX_USERS:
        raise ValueError(f"there are {len(users)} users: at most {MAX_USERS} are possible")
    if len({user.name for user in users}) < len(users) or len({user.token for user in users}) < len(users):
        raise ValueError("two users have the same name or the same token: give each its own")
    return users


def find_user(users: tuple[User, ...], token: str) -> User | None:
    """Return the user with this token. The time does not depend on the token."""
    found = [user for user in users if hmac.compare_digest(token.encode(), user.token.encode())]
    return found[0] if found else None


def _parse_user(number: int, entry: str) -> User:
    name, *rest = (part.strip() for part in entry.split(":", 2))
    if len(rest) != 2:
        raise ValueError(f"entry {number} is incomplete: {_SYNTAX}")
    role, token = rest
    if not name or len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
        raise ValueError(f"the name of entry {number} must have 1 to {MAX_NAME_CHARACTERS} printable characters")
    if role not in set(Role):
        raise ValueError(f"the role of entry {number} is unknown: {_SYNTAX}")
    if len(token) < MIN_SECRET_CHARACTERS:
        raise ValueError(f"the token of entry {number}: {SHORT_SECRET}")
    return User(name, Role(role), token)
