"""The callback server under hostile reports: what it refuses changes nothing, what it takes was the holder's to say."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from jobfn.worker.tokens import CallbackTokens, Claim
from support.fuzz import CANARY, Answer, Headers, Watched, ends_early, fuzz, request_bytes
from support.fuzz_strategies import JUNK, METHODS, hostile_bodies, hostile_headers, paths, written

#: Some requests are huge, on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

HOLDER = "holder-1"
STATUSES = {200, 400, 401, 404, 405, 409}
PATHS = ("callback", "heartbeat", "any/prefix/callback", "callback/", "callback/callback", "heartbeats", "")
SNAPSHOT = """
    select coalesce(string_agg(row_to_json(j)::text, e'\\n' order by id), '')
        || coalesce((select string_agg(l::text, e'\\n' order by queue_name) from app_jobs.queue_locks l), '')
    from app_jobs.jobs j
"""


class HeldJobs:
    """Jobs that a worker holds, and the database as it is now, asked from tests that are not async."""

    def __init__(self, dsn: str) -> None:
        self._held = 0
        self._runner = asyncio.Runner()
        self._connection: asyncpg.Connection[Any] = self._runner.run(asyncpg.connect(dsn))

    def hold(self) -> int:
        """A fresh job in its first attempt, held by ``HOLDER``; the only one that there is."""
        self._held += 1
        task = f"t{self._held}"
        self._run(self._connection.execute("delete from app_jobs.jobs"))
        added = "select (app_jobs.add_job($1, queue_name := $1)).id"
        job: int = self._run(self._connection.fetchval(added, task))
        self._run(self._connection.execute("select app_jobs.claim_jobs($1, $2, '1 h', 1, '1 h')", HOLDER, [task]))
        return job

    def attempt(self, job: int) -> int | None:
        """Which attempt it is in, while it is held; None: it is not held, or gone."""
        held: int | None = self._run(
            self._connection.fetchval(
                "select attempts from app_jobs.jobs where id = $1 and locked_by = $2", job, HOLDER
            )
        )
        return held

    def snapshot(self) -> str:
        """All that reports may change."""
        found: str = self._run(self._connection.fetchval(SNAPSHOT))
        return found

    def close(self) -> None:
        self._run(self._connection.close())
        self._runner.close()

    def _run(self, awaitable: Any) -> Any:
        async def wait() -> Any:
            return await awaitable

        return self._runner.run(wait())


@pytest.fixture(scope="session")
def held(callbacks_database: str) -> Iterator[HeldJobs]:
    jobs = HeldJobs(callbacks_database)
    yield jobs
    jobs.close()


def check(answer: Answer, *, bodiless: bool = False) -> None:
    """What holds for every answer, whatever was reported."""
    assert CANARY.encode() not in answer.body
    assert b"Traceback" not in answer.body
    if answer.is_refusal_of_http:
        event("no HTTP")
        return
    event(f"status {answer.status}")
    assert answer.status in STATUSES, answer
    assert answer.header(b"content-type") == b"application/json"
    assert answer.header(b"location") is None
    content_length = answer.header(b"content-length")
    assert content_length is not None
    if not bodiless:
        assert int(content_length) == len(answer.body)
        if answer.status >= 400:
            assert isinstance(answer.content["error"], str)


@pytest.fixture(params=["callbacks", "signed_callbacks"])
def either(request: pytest.FixtureRequest) -> Watched:
    """Either callback server."""
    found: Watched = request.getfixturevalue(str(request.param))
    return found


@fuzz(250)
@given(method=METHODS, target=paths(*PATHS), headers=hostile_headers(), body=hostile_bodies())
def test_any_request(
    method: bytes, target: bytes, headers: Headers, body: bytes, either: Watched, held: HeldJobs
) -> None:
    """Whatever comes is answered, in time and in JSON; nobody here holds a job, so nothing changes."""
    before = held.snapshot()
    sent = [*headers, (b"Content-Length", b"%d" % len(body))]
    answers = either.ask(request_bytes(method, target, sent, body), method=method)
    assert len(answers) == 1 or ends_early(sent)
    check(answers[0], bodiless=method == b"HEAD")
    assert held.snapshot() == before


@dataclass(frozen=True)
class Said:
    """One thing that a report says of its job, and whether it is true.

    Attributes:
        of: Makes the bytes from the true value.
        is_true: Whether a report that says this may be heard.
    """

    of: Callable[[Any], bytes]
    is_true: bool


def _text(value: object) -> bytes:
    return str(value).encode()


TRUE = Said(_text, is_true=True)
JOB_LIES = st.sampled_from(
    [
        Said(lambda job: _text(job + 10**6), is_true=False),
        Said(lambda job: _text(job) + b"\xff", is_true=False),
        Said(lambda job: b"0" * 30 + _text(job), is_true=False),
        Said(lambda job: b"-" + _text(job), is_true=False),
        Said(lambda job: _text(job) + b"; drop table jobs", is_true=False),
        Said(lambda _job: b"9" * 400, is_true=False),
    ]
)
WORKER_LIES = st.sampled_from(
    [
        Said(lambda _worker: b"somebody-else", is_true=False),
        Said(lambda worker: _text(worker) + b"\xff", is_true=False),
        Said(lambda worker: _text(worker).upper(), is_true=False),
        Said(lambda _worker: b"%" * 20_000, is_true=False),
        Said(lambda worker: _text(worker) + b"\x0b", is_true=False),
        Said(lambda worker: _text(worker) + b"'--", is_true=False),
    ]
)
ATTEMPT_LIES = st.sampled_from([Said(lambda _attempt: b"2", is_true=False), Said(lambda _attempt: b"x", is_true=False)])
_TRUTH = st.just((TRUE, TRUE, TRUE))
#: Who reports on what: job, worker, attempt. Mostly the truth, with which a report gets further.
CLAIMS = st.one_of(
    *(_TRUTH, _TRUTH, _TRUTH, _TRUTH),
    st.tuples(JOB_LIES, st.just(TRUE), st.just(TRUE)),
    st.tuples(st.just(TRUE), WORKER_LIES, st.just(TRUE)),
    st.tuples(st.just(TRUE), st.just(TRUE), ATTEMPT_LIES),
    st.tuples(JOB_LIES, WORKER_LIES, ATTEMPT_LIES),
)
JOB_ERRORS = st.sampled_from([b"true", b"true", b" TRUE ", b"false", b""])
NUMBERS = st.sampled_from(
    [0, -1, 10**400, -(10**400), 1e308, 5e-324, True, "7", float("nan"), float("-inf"), 2**63, 7.5]
)
REPORTS = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(["success", "error"]),
        "error": JUNK,
        "message": JUNK,
        "permanent": st.booleans() | JUNK,
        "retryAfterSeconds": NUMBERS | st.floats() | JUNK,
    },
).map(written)
BEATS = st.fixed_dictionaries(
    {}, optional={"progress": NUMBERS | st.floats(0, 1) | JUNK, "note": JUNK | st.text(max_size=2_000)}
).map(written)
NO_BODIES = st.one_of(
    hostile_bodies(),
    st.integers(100, 100_000).map(lambda depth: b'{"error": ' + b"[" * depth + b"]" * depth + b"}"),
    st.integers(900, 1_000).map(lambda depth: b'{"message": ' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"),
)
#: Where to, and what: a report, a sign of life, or neither.
MESSAGES = st.one_of(
    *(st.tuples(st.sampled_from([b"callback", b"a/prefix/callback"]), REPORTS),) * 3,
    st.tuples(st.just(b"heartbeat"), BEATS),
    st.tuples(st.sampled_from([b"callback", b"heartbeat"]), NO_BODIES),
)


@fuzz(450)
@given(
    message=MESSAGES,
    claim=CLAIMS,
    job_error=JOB_ERRORS,
    more=st.lists(hostile_headers(), max_size=1),
)
def test_reports_that_may_be_true(
    message: tuple[bytes, bytes],
    claim: tuple[Said, Said, Said],
    job_error: bytes,
    more: list[Headers],
    callbacks: Watched,
    held: HeldJobs,
) -> None:
    """A report of a job's holder is heard, whatever else it says; one of anybody else changes nothing."""
    (job_id, worker, attempt), (path, body) = claim, message
    job = held.hold()
    before = held.snapshot()
    headers = [
        (b"X-Worker-Id", worker.of(HOLDER)),
        (b"X-Job-Id", job_id.of(job)),
        (b"X-Job-Attempt", attempt.of(1)),
        (b"X-Job-Error", job_error),
        (b"Content-Length", b"%d" % len(body)),
        *(header for hostile in more for header in hostile if not header[0].lower().startswith(b"x-")),
    ]
    answer, *others = callbacks.ask(request_bytes(b"POST", b"/" + path, headers, body))
    assert not others or ends_early(headers)
    check(answer)
    is_true = worker.is_true and job_id.is_true and attempt.is_true
    judge(answer, job, before, held, path=path, may_be_heard=is_true)
    if is_true and path.endswith(b"callback") and not answer.is_refusal_of_http:
        assert answer.status == 200


def judge(answer: Answer, job: int, before: str, held: HeldJobs, *, path: bytes, may_be_heard: bool) -> None:
    """What the database must look like after this answer."""
    if answer.status != 200 or answer.body == b'"OK"':
        assert held.snapshot() == before
        return
    assert may_be_heard
    if path.endswith(b"callback"):
        assert held.attempt(job) is None
        assert answer.content == {"workerId": HOLDER, "jobId": str(job)}


def _flipped(token: str) -> str:
    return token[:3] + ("A" if token[3] != "A" else "B") + token[4:]


TOKENS: dict[str, Callable[[Claim], str]] = {
    "good": lambda claim: signed("new-secret", claim),
    "of the old secret": lambda claim: signed("old-secret", claim),
    "of another secret": lambda claim: signed("guessed", claim),
    "of another job": lambda claim: signed("new-secret", Claim(claim.worker_id, claim.job_id + 1, claim.attempt)),
    "of another worker": lambda claim: signed("new-secret", Claim("somebody-else", claim.job_id, claim.attempt)),
    "of another attempt": lambda claim: signed("new-secret", Claim(claim.worker_id, claim.job_id, 2)),
    "with a changed payload": lambda claim: _flipped(signed("new-secret", claim)),
    "unsigned": lambda claim: signed("new-secret", claim).rpartition(".")[0],
    "signed by nothing": lambda claim: signed("new-secret", claim).rpartition(".")[0] + ".",
    "twice": lambda claim: signed("new-secret", claim) * 2,
    "hidden in front": lambda claim: signed("new-secret", claim) + "/x",
    "none": lambda _claim: "",
    "huge": lambda _claim: "a." * 20_000,
    "compressed noise": lambda _claim: ".eJwLAA.aaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "noise": lambda _claim: "%00%ff.%2F..é".encode("ascii", "ignore").decode(),
}
GOOD = {"good", "of the old secret"}


def signed(secret: str, claim: Claim) -> str:
    url = CallbackTokens([secret], max_age_seconds=3600).url_for("http://x/callback", claim)
    return url.split("/")[-2]


@fuzz(350)
@given(
    kind=st.sampled_from([*TOKENS, *GOOD]),
    message=MESSAGES,
    claim=CLAIMS,
    job_error=JOB_ERRORS,
)
def test_tokens(
    kind: str,
    message: tuple[bytes, bytes],
    claim: tuple[Said, Said, Said],
    job_error: bytes,
    signed_callbacks: Watched,
    held: HeldJobs,
) -> None:
    """Only a good token of this worker, job and attempt opens the door."""
    job_id, worker, attempt = claim
    job = held.hold()
    before = held.snapshot()
    path = b"/%s/%s" % (TOKENS[kind](Claim(HOLDER, job, 1)).encode(), message[0].rpartition(b"/")[2])
    headers = [
        (b"X-Worker-Id", worker.of(HOLDER)),
        (b"X-Job-Id", job_id.of(job)),
        (b"X-Job-Attempt", attempt.of(1)),
        (b"X-Job-Error", job_error),
        (b"Content-Length", b"%d" % len(message[1])),
    ]
    (answer,) = signed_callbacks.ask(request_bytes(b"POST", path, headers, message[1]))
    check(answer)
    is_true = kind in GOOD and worker.is_true and job_id.is_true and attempt.is_true
    event(f"{kind}: {answer.status}")
    judge(answer, job, before, held, path=path, may_be_heard=is_true)
    if is_true and path.endswith(b"callback"):
        assert answer.status == 200
