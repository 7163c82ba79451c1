"""From a task identifier to the DNS name of the Knative service that runs it: pure.

``jobfn manifests`` names services so, and the worker finds them so (``wire.task_url``): both call ``dns_name``, or a
job would be sent where no function is.

The rule: lower case; each run of other characters than ``a-z`` and ``0-9`` is one hyphen, and none stands at an end; a
name that begins with a digit gets ``t-`` before it, since a Kubernetes service begins with a letter. A name over
``MAX_DNS_NAME_CHARACTERS`` keeps its beginning and ends in eight hexadecimal digits of the identifier's SHA-256, and so does one
of which nothing is left. Two identifiers can still meet (``a:b`` and ``a.b``): ``dns_names`` refuses them.
"""

import hashlib
import re
from collections.abc import Iterable

from jobfn.errors import ConfigurationError

#: A label of DNS has 63; Knative needs some for the names of revisions: ``-00001``.
MAX_DNS_NAME_CHARACTERS = 50
_OTHER = re.compile("[^a-z0-9]+")
_DIGEST_CHARACTERS = 8


def dns_name(task: str) -> str:
    """The DNS label of a task: ``email:send_email`` is ``email-send-email``. The same for ever, for one identifier."""
    name = _OTHER.sub("-", task.lower()).strip("-")
    if name[:1].isdigit():
        name = f"t-{name}"
    if name and len(name) <= MAX_DNS_NAME_CHARACTERS:
        return name
    digest = hashlib.sha256(task.encode()).hexdigest()[:_DIGEST_CHARACTERS]
    return f"{(name or 'task')[: MAX_DNS_NAME_CHARACTERS - len(digest) - 1].rstrip('-')}-{digest}"


def dns_names(tasks: Iterable[str]) -> dict[str, str]:
    """The DNS label of each task.

    Raises:
        ConfigurationError: Two tasks would be one service; names both.
    """
    owners: dict[str, str] = {}
    for task in tasks:
        name = dns_name(task)
        other = owners.setdefault(name, task)
        if other != task:
            raise ConfigurationError(
                f"the tasks {other!r} and {task!r} have the same DNS name, {name!r}: rename one of them, "
                "or say in JOBS_FUNCTION_URLS where each of them lives"
            )
    return {task: name for name, task in owners.items()}
