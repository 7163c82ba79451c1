"""Hostile reports to the callback server: only the worker that holds a job can change it."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from jobfn.worker.tokens import CallbackTokens, Claim
from support.fuzz import CANARY, FuzzResponse, FuzzTarget, Headers, ends_head_early, fuzz, request_bytes
from support.fuzz_strategies import JUNK, METHODS, hostile_bodies, hostile_headers, json_bytes, paths
from support.secrets import CALLBACK_SECRET, OLD_CALLBACK_SECRET

T = TypeVar("T")

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

WORKER = "holder-1"
STATUSES = {200, 400, 401, 404, 405, 409}
PATHS = ("callback", "heartbeat", "any/prefix/callback", "callback/", "callback/callback", "heartbeats", "")
#: Everything that a report may change.
SNAPSHOT = """
    select coalesce(string_agg(row_to_json(j)::text, e'\\n' order by id), '')
        || coalesce((select string_agg(l::text, e'\\n' order by queue_name) from app_jobs.queue_locks l), '')
    from app_jobs.jobs j
"""


class LockedJobs:
    """Jobs that ``WORKER`` has locked. A synchronous interface to the database, because Hypothesis needs one."""

    def __init__(self, dsn: str) -> None:
        self._count = 0
        self._runner = asyncio.Runner()
        self._connection: asyncpg.Connection[Any] = self._run(_connect(dsn))

    def lock_new_job(self, lease: str | None = "1 h") -> int:
        """Replace all jobs by a new one in its first attempt."""
        self._count += 1
        task = f"t{self._count}"
        self._run(self._connection.execute("delete from app_jobs.jobs"))
        job: int = self._run(self._connection.fetchval("select (app_jobs.add_job($1, queue_name := $1)).id", task))
        self._run(
            self._connection.execute(
                "select app_jobs.claim_jobs($1, $2, '1 h', 1, $3::text::interval)", WORKER, [task], lease
            )
        )
        return job

    def is_locked(self, job: int) -> bool:
        query = "select exists (select from app_jobs.jobs where id = $1 and locked_by = $2)"
        return bool(self._run(self._connection.fetchval(query, job, WORKER)))

    def snapshot(self) -> str:
        return str(self._run(self._connection.fetchval(SNAPSHOT)))

    def close(self) -> None:
        self._run(self._connection.close())
        self._runner.close()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(coroutine)


async def _connect(dsn: str) -> "asyncpg.Connection[Any]":
    return await asyncpg.connect(dsn)


@pytest.fixture(scope="session")
def locked_jobs(callbacks_dsn: str) -> Iterator[LockedJobs]:
    jobs = LockedJobs(callbacks_dsn)
    yield jobs
    jobs.close()


def check(response: FuzzResponse, *, is_head: bool = False) -> None:
    """Assert what holds for every response."""
    assert CANARY.encode() not in response.body
    assert b"Traceback" not in response.body
    if response.is_from_parser:
        event("invalid HTTP")
        return
    event(f"status {response.status}")
    assert response.status in STATUSES, response
    assert response.header(b"content-type") == b"application/json"
    assert response.header(b"location") is None
    content_length = response.header(b"content-length")
    assert content_length is not None
    if not is_head:
        assert int(content_length) == len(response.body)
        if response.status >= 400:
            assert isinstance(response.content["error"], str)


@pytest.fixture(params=["callbacks", "signed_callbacks"])
def any_callbacks(request: pytest.FixtureRequest) -> FuzzTarget:
    target: FuzzTarget = request.getfixturevalue(str(request.param))
    return target


@fuzz(100)
@given(method=METHODS, target=paths(*PATHS), headers=hostile_headers(), body=hostile_bodies())
def test_any_request_without_a_locked_job_gets_one_valid_response_and_changes_nothing(
    method: bytes, target: bytes, headers: Headers, body: bytes, any_callbacks: FuzzTarget, locked_jobs: LockedJobs
) -> None:
    before = locked_jobs.snapshot()
    sent = [*headers, (b"Content-Length", b"%d" % len(body))]
    responses = any_callbacks.send(request_bytes(method, target, sent, body), method=method)
    assert len(responses) == 1 or ends_head_early(sent)
    check(responses[0], is_head=method == b"HEAD")
    assert locked_jobs.snapshot() == before


@dataclass(frozen=True)
class HeaderValue:
    """The value of a job header, made from the correct value."""

    make: Callable[[object], bytes]
    is_correct: bool = False


def _text(value: object) -> bytes:
    return str(value).encode()


CORRECT = HeaderValue(_text, is_correct=True)
WRONG_JOBS = st.sampled_from(
    [
        HeaderValue(lambda job: b"1000000" + _text(job)),
        HeaderValue(lambda job: _text(job) + b"\xff"),
        HeaderValue(lambda job: b"0" * 30 + _text(job)),
        HeaderValue(lambda job: b"-" + _text(job)),
        HeaderValue(lambda job: _text(job) + b"; drop table jobs"),
        HeaderValue(lambda _job: b"9" * 400),
    ]
)
WRONG_WORKERS = st.sampled_from(
    [
        HeaderValue(lambda _worker: b"somebody-else"),
        HeaderValue(lambda worker: _text(worker) + b"\xff"),
        HeaderValue(lambda worker: _text(worker).upper()),
        HeaderValue(lambda _worker: b"%" * 20_000),
        HeaderValue(lambda worker: _text(worker) + b"\x0b"),
        HeaderValue(lambda worker: _text(worker) + b"'--"),
    ]
)
WRONG_ATTEMPTS = st.sampled_from([HeaderValue(lambda _attempt: b"2"), HeaderValue(lambda _attempt: b"x")])
_ALL_CORRECT = st.just((CORRECT, CORRECT, CORRECT))
#: Headers of job, worker and attempt. Mostly correct, because such reports get further.
IDENTITIES = st.one_of(
    *(_ALL_CORRECT, _ALL_CORRECT, _ALL_CORRECT, _ALL_CORRECT),
    st.tuples(WRONG_JOBS, st.just(CORRECT), st.just(CORRECT)),
    st.tuples(st.just(CORRECT), WRONG_WORKERS, st.just(CORRECT)),
    st.tuples(st.just(CORRECT), st.just(CORRECT), WRONG_ATTEMPTS),
    st.tuples(WRONG_JOBS, WRONG_WORKERS, WRONG_ATTEMPTS),
)
Identity = tuple[HeaderValue, HeaderValue, HeaderValue]


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
).map(json_bytes)
HEARTBEATS = st.fixed_dictionaries(
    {}, optional={"progress": NUMBERS | st.floats(0, 1) | JUNK, "note": JUNK | st.text(max_size=2_000)}
).map(json_bytes)
INVALID_BODIES = st.one_of(
    hostile_bodies(),
    st.integers(100, 100_000).map(lambda depth: b'{"error": ' + b"[" * depth + b"]" * depth + b"}"),
    st.integers(900, 1_000).map(lambda depth: b'{"message": ' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"),
)
#: Path and body of a report, a heartbeat, or neither.
MESSAGES = st.one_of(
    *(st.tuples(st.sampled_from([b"callback", b"a/prefix/callback"]), REPORTS),) * 3,
    st.tuples(st.just(b"heartbeat"), HEARTBEATS),
    st.tuples(st.sampled_from([b"callback", b"heartbeat"]), INVALID_BODIES),
)


def job_headers(identity: Identity, job: int, job_error: bytes, body: bytes) -> Headers:
    job_id, worker, attempt = identity
    return [
        (b"X-Worker-Id", worker.make(WORKER)),
        (b"X-Job-Id", job_id.make(job)),
        (b"X-Job-Attempt", attempt.make(1)),
        (b"X-Job-Error", job_error),
        (b"Content-Length", b"%d" % len(body)),
    ]


def check_effect(response: FuzzResponse, job: int, before: str, jobs: LockedJobs, *, path: bytes, valid: bool) -> None:
    """Assert that only a valid message changed the database."""
    if response.status != 200 or response.body == b'"OK"':
        assert jobs.snapshot() == before
        return
    assert valid
    if path.endswith(b"callback"):
        assert not jobs.is_locked(job)
        assert response.content == {"workerId": WORKER, "jobId": str(job)}


@fuzz(180)
@given(
    message=MESSAGES, identity=IDENTITIES, job_error=JOB_ERRORS, extra_headers=st.one_of(st.just([]), hostile_headers())
)
def test_only_a_report_of_the_job_s_worker_is_accepted_whatever_its_body(
    message: tuple[bytes, bytes],
    identity: Identity,
    job_error: bytes,
    extra_headers: Headers,
    callbacks: FuzzTarget,
    locked_jobs: LockedJobs,
) -> None:
    path, body = message
    job = locked_jobs.lock_new_job(lease=None)  # as the platform's worker, whose reports have no token
    before = locked_jobs.snapshot()
    headers = [
        *job_headers(identity, job, job_error, body),
        *(header for header in extra_headers if not header[0].lower().startswith(b"x-")),
    ]
    response, *others = callbacks.send(request_bytes(b"POST", b"/" + path, headers, body))
    assert not others or ends_head_early(headers)
    check(response)
    valid = all(value.is_correct for value in identity)
    check_effect(response, job, before, locked_jobs, path=path, valid=valid)
    if valid and path.endswith(b"callback") and not response.is_from_parser:
        assert response.status == 200


def _flip_character(token: str) -> str:
    return token[:3] + ("A" if token[3] != "A" else "B") + token[4:]


TOKENS: dict[str, Callable[[Claim], str]] = {
    "valid": lambda claim: signed(CALLBACK_SECRET, claim),
    "old secret": lambda claim: signed(OLD_CALLBACK_SECRET, claim),
    "wrong secret": lambda claim: signed("guessed", claim),
    "other job": lambda claim: signed(CALLBACK_SECRET, Claim(claim.worker_id, claim.job_id + 1, claim.attempt)),
    "other worker": lambda claim: signed(CALLBACK_SECRET, Claim("somebody-else", claim.job_id, claim.attempt)),
    "other attempt": lambda claim: signed(CALLBACK_SECRET, Claim(claim.worker_id, claim.job_id, 2)),
    "changed payload": lambda claim: _flip_character(signed(CALLBACK_SECRET, claim)),
    "unsigned": lambda claim: signed(CALLBACK_SECRET, claim).rpartition(".")[0],
    "empty signature": lambda claim: signed(CALLBACK_SECRET, claim).rpartition(".")[0] + ".",
    "twice": lambda claim: signed(CALLBACK_SECRET, claim) * 2,
    "none": lambda _claim: "",
    "huge": lambda _claim: "a." * 20_000,
    "compressed noise": lambda _claim: ".eJwLAA.aaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "noise": lambda _claim: "%00%ff.%2F..é".encode("ascii", "ignore").decode(),
}
VALID_TOKENS = {"valid", "old secret"}


def signed(secret: str, claim: Claim) -> str:
    return CallbackTokens([secret], max_age_seconds=3600).sign(claim.worker_id, [(claim.job_id, claim.attempt or 1)])


@fuzz(140)
@given(kind=st.sampled_from([*TOKENS, *VALID_TOKENS]), message=MESSAGES, identity=IDENTITIES, job_error=JOB_ERRORS)
def test_only_a_valid_token_of_this_worker_job_and_attempt_is_accepted(
    kind: str,
    message: tuple[bytes, bytes],
    identity: Identity,
    job_error: bytes,
    signed_callbacks: FuzzTarget,
    locked_jobs: LockedJobs,
) -> None:
    last_segment, body = message[0].rpartition(b"/")[2], message[1]
    job = locked_jobs.lock_new_job()
    before = locked_jobs.snapshot()
    path = b"/" + last_segment
    target = b"%s?token=%s&/callback" % (path, TOKENS[kind](Claim(WORKER, job, 1)).encode())
    headers = job_headers(identity, job, job_error, body)
    (response,) = signed_callbacks.send(request_bytes(b"POST", target, headers, body))
    check(response)
    event(f"{kind}: {response.status}")
    valid = kind in VALID_TOKENS and all(value.is_correct for value in identity)
    check_effect(response, job, before, locked_jobs, path=path, valid=valid)
    if valid and path.endswith(b"callback"):
        assert response.status == 200
