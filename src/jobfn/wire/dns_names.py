"""DNS name of the Knative service that runs a task. Pure.

``jobfn manifests`` names services with it, and the worker finds them with it (``wire.task_url``).

The rule: lower case; each run of characters other than ``a-z`` and ``0-9`` becomes one hyphen; leading and trailing
hyphens are removed; a name that begins with a digit gets the prefix ``t-``, because a Kubernetes service name begins
with a letter. A name that is empty or longer than ``MAX_DNS_NAME_CHARACTERS`` ends in eight hexadecimal digits of the
identifier's SHA-256. Different identifiers may still collide (``a:b`` and ``a.b``); ``dns_names`` rejects that.
"""

import hashlib
import re
from collections.abc import Iterable

from jobfn.errors import ConfigurationError

#: Maximum length. A DNS label may have 63 characters; Knative appends revision numbers such as ``-00001``.
MAX_DNS_NAME_CHARACTERS = 50
_OTHER = re.compile("[^a-z0-9]+")
_DIGEST_CHARACTERS = 8


def dns_name(task: str) -> str:
    """Return the DNS label of a task: ``email:send_email`` becomes ``email-send-email``. It must never change."""
    name = _OTHER.sub("-", task.lower()).strip("-")
    if name[:1].isdigit():
        name = f"t-{name}"
    if name and len(name) <= MAX_DNS_NAME_CHARACTERS:
        return name
    digest = hashlib.sha256(task.encode()).hexdigest()[:_DIGEST_CHARACTERS]
    return f"{(name or 'task')[: MAX_DNS_NAME_CHARACTERS - len(digest) - 1].rstrip('-')}-{digest}"


def dns_names(tasks: Iterable[str]) -> dict[str, str]:
    """Return the DNS label of each task.

    Raises:
        ConfigurationError: Two tasks have the same label.
    """
    tasks_by_name: dict[str, str] = {}
    for task in tasks:
        name = dns_name(task)
        other = tasks_by_name.setdefault(name, task)
        if other != task:
            raise ConfigurationError(
                f"the tasks {other!r} and {task!r} have the same DNS name, {name!r}: rename one of them, "
                "or set their URLs in JOBS_FUNCTION_URLS"
            )
    return {task: name for name, task in tasks_by_name.items()}
