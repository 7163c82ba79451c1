"""What people see of the jobs and do with them: under the command line and the dashboard alike.

``facade.py`` (``Operations``) -> ``reading.py`` (lists, one job), ``measures.py`` (counts, the last hour, workers),
``actions.py`` (retry, run now, cancel, remove), ``views.py`` (schedules, triggers), ``follow.py`` (wait for an end).

::

    from jobfn.operations import Action, JobFilter, JobState, open_operations

    operations = await open_operations(pool, "app_jobs")
    page = await operations.list_jobs(JobFilter(state=JobState.FAILED))
    await operations.act(Action.RETRY, [job.id for job in page.jobs])
"""

from jobfn.operations.actions import Action, ActionResult, Skipped
from jobfn.operations.figures import Counts, GroupCount, Minute, WorkerRow
from jobfn.operations.follow import FinalState
from jobfn.operations.operations import Operations, open_operations
from jobfn.operations.read_models import ScheduleView, TriggerView
from jobfn.operations.records import Event, JobDetail, JobFilter, JobPage, JobRow, JobState, Run, RunOutcome
from jobfn.operations.statements import Features

__all__ = [
    "Action",
    "ActionResult",
    "Counts",
    "Event",
    "Features",
    "FinalState",
    "GroupCount",
    "JobDetail",
    "JobFilter",
    "JobPage",
    "JobRow",
    "JobState",
    "Minute",
    "Operations",
    "Run",
    "RunOutcome",
    "ScheduleView",
    "Skipped",
    "TriggerView",
    "WorkerRow",
    "open_operations",
]
