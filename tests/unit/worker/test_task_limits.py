"""What is known about the limits of tasks."""

from jobfn.worker.task_limits import TaskLimits
from support.clock import ManualClock

URL = "http://functions/"


class Lists:
    """The lists of function apps, and how often they were fetched."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.fetched: list[str] = []

    async def fetch(self, url: str) -> bytes:
        self.fetched.append(url)
        return self.body


async def test_list_is_fetched_once_a_minute_until_it_names_a_limit() -> None:
    clock, lists = ManualClock(), Lists(b'{"tasks": [{"identifier": "t"}]}')
    limits = TaskLimits(lists.fetch, clock)
    await limits.learn("t", URL)
    await limits.learn("t", URL)
    assert (lists.fetched, limits.is_last("t", 1)) == ([URL], False)
    clock.advance(60.0)
    lists.body = b'{"tasks": [{"identifier": "t", "max_attempts": 3}]}'
    await limits.learn("t", URL)
    clock.advance(600.0)
    await limits.learn("t", URL)
    assert lists.fetched == [URL, URL]
    assert [limits.is_last("t", attempt) for attempt in (1, 2, 3, 4)] == [False, False, True, True]


async def test_response_replaces_the_limit() -> None:
    limits = TaskLimits(Lists(b"no list").fetch, ManualClock())
    await limits.learn("t", URL)
    limits.record_response("t", {"X-Max-Attempts": "1"})
    assert limits.is_last("t", 1)
    limits.record_response("t", {"X-Max-Attempts": "0"})
    assert not limits.is_last("t", 1)
    limits.record_response("t", {"X-Max-Attempts": "1"})
    limits.record_response("t", {})
    assert not limits.is_last("t", 1)


async def test_changes_are_told_once() -> None:
    lists = Lists(b'{"tasks": [{"identifier": "listed", "max_attempts": 3}]}')
    learned: list[tuple[str, int | None]] = []
    limits = TaskLimits(lists.fetch, ManualClock(), lambda task, limit: learned.append((task, limit)))
    for headers in ({"X-Max-Attempts": "2"}, {"X-Max-Attempts": "2"}, {}, {}, {"X-Max-Attempts": "4"}):
        limits.record_response("t", headers)
    limits.record_response("without", {})
    await limits.learn("listed", URL)
    await limits.learn("unlisted", URL)
    assert learned == [("t", 2), ("t", None), ("t", 4), ("without", None), ("listed", 3)]


async def test_response_without_a_limit_answers_as_a_list_does() -> None:
    clock, lists = ManualClock(), Lists(b'{"tasks": [{"identifier": "t"}]}')
    limits = TaskLimits(lists.fetch, clock)
    limits.record_response("t", {})
    await limits.learn("t", URL)
    limits.record_response("t", {})
    await limits.learn("t", URL)
    assert lists.fetched == []
    clock.advance(60.0)
    limits.record_response("t", {})
    await limits.learn("t", URL)
    limits.record_response("t", {})
    await limits.learn("t", URL)
    assert lists.fetched == [URL]


def test_only_a_thousand_tasks_are_remembered() -> None:
    limits = TaskLimits(Lists(b"").fetch, ManualClock())
    for number in range(1001):
        limits.record_response(f"t{number}", {"X-Max-Attempts": "1"})
    assert [limits.is_last("t0", 1), limits.is_last("t1000", 1)] == [False, True]
