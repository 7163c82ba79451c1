"""Read and change jobs, for the command line and the dashboard.

``operations.py`` (``Operations``) -> ``queries.py`` (lists, one job), ``stats.py`` (counts, workers), ``throughput.py``
(the history), ``actions.py`` (retry, run now, cancel, remove), ``read_models.py`` (schedules, triggers), ``follow.py``
(wait for a job to finish), ``troubles.py``. ``doctor.py`` has the checks of ``jobfn doctor``.

::

    from jobfn.operations import Action, JobFilter, JobState, open_operations

    operations = await open_operations(pool, "app_jobs")
    page = await operations.list_jobs(JobFilter(state=JobState.FAILED))
    await operations.apply(Action.RETRY, [job.id for job in page.jobs])
"""

from jobfn.operations.actions import Action, ActionResult
from jobfn.operations.error_groups import ErrorGroup, ErrorGroups
from jobfn.operations.follow import FinalState
from jobfn.operations.operations import Operations, open_operations
from jobfn.operations.read_models import TriggerView
from jobfn.operations.records import JobDetail, JobFilter, JobOrder, JobPage, JobRow, JobState, RunOutcome
from jobfn.operations.stats import GroupCount, JobCounts, WorkerRow
from jobfn.operations.throughput import ThroughputBucket, TimeRange
from jobfn.operations.troubles import Trouble, TroubleKind

__all__ = [
    "Action",
    "ActionResult",
    "ErrorGroup",
    "ErrorGroups",
    "FinalState",
    "GroupCount",
    "JobCounts",
    "JobDetail",
    "JobFilter",
    "JobOrder",
    "JobPage",
    "JobRow",
    "JobState",
    "Operations",
    "RunOutcome",
    "ThroughputBucket",
    "TimeRange",
    "TriggerView",
    "Trouble",
    "TroubleKind",
    "WorkerRow",
    "open_operations",
]
