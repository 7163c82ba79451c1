"""Topics of the Python reference: a page for each, with the public names that belong to it."""

import importlib
import inspect
import json
from dataclasses import dataclass

import jobfn
from jobfn.errors import JobfnError


@dataclass(frozen=True)
class Topic:
    """A page of the reference.

    Attributes:
        page: Path of the page in the docs folder.
        about: What the page is about, one sentence.
        names: The names on it, by the module that users import them from.
        guide: Page that explains the topic.
    """

    page: str
    title: str
    about: str
    names: dict[str, list[str]]
    guide: str

    @property
    def objects(self) -> list[str]:
        """Full names in the modules that define them."""
        return [_home(module, name) for module, names in self.names.items() for name in names]


def _home(module: str, name: str) -> str:
    """Return the full name of an object in the module that defines it."""
    found = getattr(importlib.import_module(module), name)
    return f"{getattr(found, '__module__', module)}.{name}"


#: Members without an underscore that only other modules of jobfn use.
INTERNAL_MEMBERS = {
    "EnqueuedJob": ("create",),
    "EnqueuedJobs": ("create",),
    "FunctionApp": ("cancel", "check_environment", "execute", "lifespan_context", "use_report_transport"),
    "JobContext": ("aclose", "from_headers", "ids"),
    "RecordedStep": ("from_record",),
    "RetryPolicy": ("decide",),
    "Backoff": ("delay_seconds",),
    "Schedule": ("info",),
    "SyncEnqueuedJob": ("create",),
    "Task": ("decode",),
}
#: Classes whose methods are partly in their base classes.
_WITH_INHERITED = frozenset({"JobContext", "Task"})
#: Objects that users call.
_CALLABLES = frozenset({"AssertEnqueued", "DrainJobs", "Task"})


#: The exceptions have a page with their codes.
ERRORS = Topic(
    "reference/errors.md",
    "Errors",
    "Exceptions, with their codes and what to do.",
    {
        "jobfn": [
            name
            for name in jobfn.__all__
            if inspect.isclass(found := getattr(jobfn, name)) and issubclass(found, JobfnError)
        ]
    },
    "how-to/retries.md",
)
TOPICS = (
    Topic(
        "reference/define-tasks.md",
        "Define tasks",
        "The decorator, what a handler gets, retries, and the app that serves tasks.",
        {
            "jobfn": [
                *("task", "Task", "JobContext", "Resource", "Requirement", "RetryPolicy", "Backoff"),
                *("create_app", "FunctionApp"),
            ]
        },
        "tutorial.md",
    ),
    Topic(
        "reference/enqueue.md",
        "Enqueue",
        "Add jobs in your transaction.",
        {
            "jobfn": ["enqueue", "enqueue_many", "JobOptions", "BulkJobOptions"],
            "jobfn.client": ["EnqueuedJob", "SyncEnqueuedJob", "EnqueuedJobs"],
        },
        "how-to/enqueue.md",
    ),
    Topic("reference/results.md", "Results", "Wait for a job.", {"jobfn": ["JobResult"]}, "how-to/results.md"),
    ERRORS,
    Topic(
        "reference/testing.md",
        "Testing",
        "Fixtures of the pytest plugin and what they return.",
        {"jobfn.testing": list(importlib.import_module("jobfn.testing").__all__)},
        "how-to/test.md",
    ),
    Topic(
        "reference/triggers.md",
        "Triggers",
        "Payloads of jobs that triggers of tables add.",
        {"jobfn.payloads": ["RowId", "Row", "RowChange", "Meta"]},
        "triggers.md",
    ),
    Topic("reference/schedules.md", "Schedules", "Recurring jobs.", {"jobfn": ["Schedule"]}, "schedules.md"),
    Topic(
        "reference/function-settings.md",
        "Settings in code",
        "Settings of a function app that `create_app` takes.",
        {"jobfn": ["FunctionSettings"]},
        "settings.md",
    ),
)


def topic_page(topic: Topic) -> str:
    """Return the page of a topic, from the docstrings."""
    lines = [f"# {topic.title}", "", f"{topic.about} The guide: [{topic.guide}](../{topic.guide}).", ""]
    for home in topic.objects:
        name = home.rpartition(".")[2]
        hidden = [f"^{member}$" for member in INTERNAL_MEMBERS.get(name, ())]
        hidden.append("^_(?!_call__$)" if name in _CALLABLES else "^_")
        lines += [f"::: {home}", "    options:", f"      filters: {json.dumps([f'!{each}' for each in hidden])}"]
        lines += ["      inherited_members: true"] if name in _WITH_INHERITED else []
        lines.append("")
    return "\n".join(lines)


def index_page() -> str:
    """Return the page that lists all public names by topic."""
    lines = ["# Python", "", "The public names by topic. All other names are internal, and may change.", ""]
    lines += ["| topic | names |", "|---|---|"]
    for topic in TOPICS:
        names = ", ".join(f"`{name}`" for names in topic.names.values() for name in names)
        lines.append(f"| [{topic.title}]({topic.page.removeprefix('reference/')}) | {names} |")
    return "\n".join(lines)
