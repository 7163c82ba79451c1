"""Tokens in callback URLs."""

import re

import pytest

from jobfn.worker.tokens import CallbackTokens, Claim, SignedClaim

NOW = 1_800_000_000.0
JOBS = [(12, 3), (7, 1), (112, 1)]


def tokens(*secrets: str, age_seconds: float = 0.0) -> CallbackTokens:
    return CallbackTokens(secrets, max_age_seconds=60, clock=lambda: NOW + age_seconds)


def claimed(token: str, *secrets: str, worker: str = "worker-0", job: int = 12) -> Claim | None:
    signed = tokens(*secrets).verify(token, worker, job)
    return None if signed is None else signed.claim


def test_token_names_its_jobs_with_their_attempts() -> None:
    token = tokens("key").sign("worker-0", JOBS)
    assert re.fullmatch(r"6b49d200\.12-3_7-1_112-1\.[\w-]{43}", token)
    assert [claimed(token, "key", job=job) for job, _ in JOBS] == [
        Claim("worker-0", 12, 3),
        Claim("worker-0", 7, 1),
        Claim("worker-0", 112, 1),
    ]
    assert [claimed(token, "key", job=job) for job in (1, 2, 3, 11, 121)] == [None] * 5
    assert claimed(token, "key", worker="worker-1") is None


def test_first_key_signs_and_all_keys_are_accepted() -> None:
    signed = tokens("new", "old").sign("worker-0", JOBS)
    assert claimed(tokens("old").sign("worker-0", JOBS), "new", "old") == Claim("worker-0", 12, 3)
    assert claimed(signed, "new") == Claim("worker-0", 12, 3)
    assert claimed(signed, "old") is None


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "zz.12-3.x", "6b49d200.12-3.", "é.12-3.é", "\ud800.\ud800"])
def test_other_text_is_not_a_token(token: str) -> None:
    assert claimed(token, "key") is None


@pytest.mark.parametrize(("age_seconds", "has_expired"), [(0, False), (60, False), (61, True), (86_400, True)])
def test_token_expires_after_its_ttl(age_seconds: int, *, has_expired: bool) -> None:
    token = tokens("key").sign("worker-0", JOBS)
    later = tokens("key", age_seconds=age_seconds)
    assert later.verify(token, "worker-0", 12) == SignedClaim(Claim("worker-0", 12, 3), has_expired=has_expired)


def test_changed_token_is_invalid() -> None:
    token = tokens("key").sign("worker-0", JOBS)
    changed = [
        token[:index] + ("A" if token[index] != "A" else "B") + token[index + 1 :] for index in range(len(token) - 1)
    ]
    assert [claimed(each, "key") for each in changed] == [None] * len(changed)


def test_batch_token_is_valid_for_batches_of_its_worker_alone() -> None:
    token = tokens("key").sign_batches("worker-0")
    assert tokens("key").verify_batches(token, "worker-0")
    assert not tokens("key").verify_batches(token, "worker-1")
    assert not tokens("other").verify_batches(token, "worker-0")
    assert not tokens("key").verify_batches(tokens("key").sign("worker-0", JOBS), "worker-0")
    assert claimed(token, "key") is None
    assert not tokens("key", age_seconds=61).verify_batches(token, "worker-0")


def test_batch_token_stays_the_same_for_a_quarter_of_its_ttl() -> None:
    now = NOW
    signing = CallbackTokens(["key"], max_age_seconds=60, clock=lambda: now)
    first = signing.sign_batches("worker-0")
    now += 14
    assert signing.sign_batches("worker-0") == first
    assert signing.sign_batches("worker-1") != first
    now += 2
    assert signing.sign_batches("worker-0") != first
