"""``Routes``: the URLs of tasks, and of the function apps that list them. Pure.

Worker, dashboard, ``jobfn dev`` and ``jobfn doctor`` all build them with ``Routes.from_settings``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit, urlunsplit

from jobfn.wire import INVOKE_SECRET, TASK_PLACEHOLDER, task_url
from jobfn.worker.invoke_secrets import InvokeSecrets
from jobfn.worker.settings import ServiceSettings


@dataclass(slots=True)
class Routes:
    """The URLs of tasks.

    Attributes:
        gateway_url: Base URL of the functions; a ``{task}`` in it is filled in (``wire.task_url``).
        by_task: URLs of single tasks, used unchanged. They take precedence.
        registered: URLs of single tasks in a table of function definitions, used unchanged, before the gateway.
        invoke_secrets: Secrets to send to functions.
    """

    gateway_url: str
    by_task: Mapping[str, str]
    registered: Mapping[str, str] = field(default_factory=dict)
    invoke_secrets: InvokeSecrets = field(default_factory=InvokeSecrets)

    @classmethod
    def from_settings(cls, settings: ServiceSettings) -> "Routes":
        """Return the routes of a worker with these settings."""
        secrets = InvokeSecrets(settings.invoke_secrets, settings.invoke_keys)
        return cls(settings.gateway_url, settings.urls_by_task, invoke_secrets=secrets)

    def url_for(self, task: str) -> str:
        """Return the URL that jobs of this task are POSTed to."""
        return self.by_task.get(task) or self.registered.get(task) or task_url(self.gateway_url, task)

    def index_url(self, task: str) -> str:
        """Return the root of the task's function app, which lists the tasks of a jobfn app."""
        return _app_root(self.url_for(task), task)

    def invoke_headers(self, url: str) -> dict[str, str]:
        """Return the header with the secret of the function at a URL, if it has one."""
        secret = self.invoke_secrets.for_url(url)
        return {} if secret is None else {INVOKE_SECRET: secret}

    @property
    def index_urls(self) -> list[str]:
        """The roots of the function apps that are known without a task."""
        urls = [self.index_url(task) for task in (*self.by_task, *self.registered)]
        if TASK_PLACEHOLDER not in self.gateway_url:
            urls.insert(0, f"{self.gateway_url.rstrip('/')}/")
        elif (root := self.gateway_url.removesuffix(TASK_PLACEHOLDER)).endswith("/") and TASK_PLACEHOLDER not in root:
            urls.insert(0, root)
        return list(dict.fromkeys(urls))


def _app_root(url: str, task: str) -> str:
    """Return the URL without the task and the query; with the last segment, if that is not the task."""
    try:
        parts = urlsplit(url)
    except ValueError:  # a request to it fails, with the reason
        return url
    head, _, last = parts.path.rpartition("/")
    path = f"{head}/" if unquote(last) == task else parts.path or "/"
    return urlunsplit(parts._replace(path=path, query="", fragment=""))
