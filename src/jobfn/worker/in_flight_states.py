"""The states of a claimed job, from its claim to its settlement.

::

    PREFETCHED <--> DELIVERING ---> AWAITING_REPORT ---> SETTLING ---> DONE
        |            |  |  |               |              ^  |  |
        |            |  |  |               +---> DONE     |  |  +----> RELEASED
        |            |  |  +---> REPORTED ---> DONE       |  +-------> ABANDONED
        |            |  +------> ACCEPTED                 |
        +------------+------------------------------------+

Every job starts in PREFETCHED and ends in DONE, RELEASED, ACCEPTED or ABANDONED. Until then, ``LeaseRenewer`` renews
its lease in every state but REPORTED, so that no other worker claims it. An event that a state does not list here
raises ``InvalidTransition``.

PREFETCHED
    Claimed, and not started. Most jobs leave this state at once, the others wait for a free slot.

    - ``start`` -> DELIVERING: a slot is free.
    - ``release`` -> SETTLING: the job waited too long, or the worker stops. The attempt does not count.
    - ``on_report`` -> DONE: a late report of an earlier attempt, from a function that does not send the attempt back,
      settled the job.

DELIVERING
    The request to the function is open and occupies a slot. It may carry several jobs.
    - ``on_response`` -> SETTLING, if the function leaves the settlement to the response, as jobfn's do. Otherwise
      -> AWAITING_REPORT: the function's report takes precedence, and may still arrive.
    - ``on_report`` -> REPORTED: functions that report usually do so before they respond.
    - ``on_not_started`` -> PREFETCHED: the function did not start this job of a batch.
    - ``on_busy`` (429, 503) -> SETTLING: the job is released. The attempt does not count.
    - ``on_unreachable`` -> SETTLING: the attempt has failed. -> AWAITING_REPORT: the connection broke after the request
      was sent. A function that lives reports what it has done.
    - ``on_accepted`` (202) -> ACCEPTED.
    - ``on_shutdown`` -> SETTLING: the attempt has failed and counts, because the function may still be running it. The
      job is due at once.
    - ``abandon`` -> ABANDONED: the dispatcher or the database raised an unexpected error.

AWAITING_REPORT
    The function has responded, or the connection broke, which counts as a failure. The slot is free; a timer runs for
    ``JOBS_REPORT_GRACE_SECONDS``.
    - ``on_report`` -> DONE: the report decides. The response is dropped. If another process has the callback server,
      the next renewal of the lease finds that the job is not held any more.
    - ``on_report_grace_expired`` -> SETTLING: no report arrived. The response decides.
    - ``on_shutdown`` -> SETTLING: the worker cannot wait. The response decides.

REPORTED
    A report has settled the job, or it was cancelled; the request is still open. The lease is not renewed: there is
    none any more.

    - any response, ``on_shutdown``, ``on_closed`` -> DONE: they change nothing.
    - ``abandon`` -> ABANDONED: as in DELIVERING.

SETTLING
    The settlement waits for its commit, across database outages if necessary. The lease is renewed until then.

    - committed -> DONE or RELEASED: also if a report or another worker was first.
    - rejected by the database, or not committed before the shutdown timeout -> ABANDONED.
    - ``on_report`` and responses change nothing: the database accepts only the first settlement. A handler in this
      process may outlive ``on_shutdown``.

``on_cancelled`` does in every state what ``on_report`` does: the job has ended.

ACCEPTED: the function runs the job in the background. Its heartbeats keep the lease, and its report settles the job.

ABANDONED: the job could not be settled. When its lease expires, any worker can claim the job again.
"""

from enum import StrEnum
from typing import Protocol


class InFlightState(StrEnum):
    """The states of a claimed job; see the module."""

    PREFETCHED = "prefetched"
    DELIVERING = "delivering"
    AWAITING_REPORT = "awaiting report"
    REPORTED = "reported"
    SETTLING = "settling"
    DONE = "done"
    RELEASED = "released"
    ACCEPTED = "accepted"
    ABANDONED = "abandoned"


#: Module constants, as attributes of enums are slow on Python 3.11.
PREFETCHED, DELIVERING, AWAITING_REPORT, REPORTED, SETTLING, DONE, RELEASED, ACCEPTED, ABANDONED = InFlightState


class Timer(Protocol):
    """A scheduled callback, such as ``asyncio.TimerHandle``."""

    def cancel(self) -> None:
        """Prevent the callback."""


class InvalidTransition(RuntimeError):
    """An event that a job's state does not allow: a bug in the worker."""
