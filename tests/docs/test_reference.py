"""The Python reference: each public name is on the page of one topic, and only these."""

import importlib
import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

import jobfn
import jobfn.client
import jobfn.testing

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def topics() -> ModuleType:
    """Return the module of the topics, which mkdocs loads from its folder."""
    spec = importlib.util.spec_from_file_location("reference_topics", ROOT / "docs" / "hooks" / "reference_topics.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_public_name_is_in_one_topic(topics: ModuleType) -> None:
    counts = Counter(name for topic in topics.TOPICS for name in topic.names.get("jobfn", []))
    assert counts == dict.fromkeys(jobfn.__all__, 1)
    modules = {module for topic in topics.TOPICS for module in topic.names}
    assert modules == {"jobfn", "jobfn.client", "jobfn.payloads", "jobfn.testing"}
    testing = [topic for topic in topics.TOPICS if topic.title == "Testing"]
    assert testing[0].names == {"jobfn.testing": jobfn.testing.__all__}


def test_topics_are_in_the_navigation_and_have_a_guide(topics: ModuleType) -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    for topic in topics.TOPICS:
        assert f"{topic.title}: {topic.page}" in navigation
        assert (ROOT / "docs" / topic.guide).is_file()
    assert [topic.title for topic in topics.TOPICS] == [
        "Define tasks",
        "Enqueue",
        "Results",
        "Errors",
        "Testing",
        "Triggers",
        "Schedules",
        "Settings in code",
    ]


def test_page_has_the_names_where_they_are_defined(topics: ModuleType) -> None:
    [enqueue] = [topic for topic in topics.TOPICS if topic.title == "Enqueue"]
    assert [line for line in topics.topic_page(enqueue).splitlines() if line.startswith(":::")] == [
        "::: jobfn.client.enqueue.enqueue",
        "::: jobfn.client.enqueue.enqueue_many",
        "::: jobfn.client.options.JobOptions",
        "::: jobfn.client.options.BulkJobOptions",
        "::: jobfn.client.result.EnqueuedJob",
        "::: jobfn.client.result.SyncEnqueuedJob",
        "::: jobfn.client.result.EnqueuedJobs",
    ]


def test_internal_members_are_hidden_and_exist(topics: ModuleType) -> None:
    names = {name: module for topic in topics.TOPICS for module, names in topic.names.items() for name in names}
    for name, members in topics.INTERNAL_MEMBERS.items():
        found = getattr(importlib.import_module(names[name]), name)
        assert [member for member in members if not hasattr(found, member)] == []
    [define] = [topic for topic in topics.TOPICS if topic.title == "Define tasks"]
    assert """::: jobfn.function.context.JobContext
    options:
      filters: ["!^aclose$", "!^from_headers$", "!^ids$", "!^_"]
      inherited_members: true
""" in topics.topic_page(define)
