"""Compare the table of limits in docs/security.md with the bounds in the code and with the tests that go past them."""

import ast
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from jobfn import unique
from jobfn.dashboard import bulk, forms, limits, live, login, sessions, switch, task_discovery, users
from jobfn.database import records
from jobfn.databases import unit
from jobfn.function import report_batcher, reporter, tracebacks, validation_errors
from jobfn.function.durable import results
from jobfn.function.settings import FunctionSettings
from jobfn.http import bounded, client, client_limits, connections, loopback, messages, server
from jobfn.http import limits as http_limits
from jobfn.mcp import limits as assistant
from jobfn.operations import error_groups, stats, throughput
from jobfn.scheduler import cron, decide, rule
from jobfn.sql import address
from jobfn.telemetry import metrics
from jobfn.wire import delivery_batch, headers, report_batch, reports, steps, urls
from jobfn.worker import (
    batching,
    callback_app,
    cancellation,
    database_list,
    dispatch,
    prefetch,
    settlement,
    slots,
    throttle,
)
from jobfn.worker import steps as worker_steps
from jobfn.worker.maintenance import pruner
from jobfn.worker.settings import ServiceSettings
from support.clock import ManualClock
from support.docs.blocks import ROOT

FUNCTION, SERVICE = FunctionSettings.from_environ({}), ServiceSettings.from_environ({})
QUERIES = (ROOT / "src/jobfn/database/queries/operations.sql").read_text("utf-8")
SCHEMA = (ROOT / "src/jobfn/database/schema.sql").read_text("utf-8")
INTEGRATION, UNIT, ATTACK = "tests/integration/", "tests/unit/", "tests/attack/"
HTTP_LIMITS, CLIENT, STREAM = (
    f"{INTEGRATION}http/test_{name}.py::test_" for name in ("limits", "client", "client_stream")
)
FUNCTION_TESTS, WORKER_TESTS = f"{INTEGRATION}function/test_", f"{INTEGRATION}worker/test_"
CALLER, DELIVERIES, SERVER, LISTING = (
    f"{ATTACK}test_malicious_{name}.py::test_" for name in ("caller", "deliveries", "server", "listing")
)
LIMITS = f"{INTEGRATION}database/test_limits.py::test_"
PARTITIONS = f"{INTEGRATION}database/test_history_partitions.py::test_"
DURABLE = f"{INTEGRATION}durable/test_durable_"
DASHBOARD = f"{INTEGRATION}dashboard/test_"
ASSISTANT = f"{INTEGRATION}mcp/test_"
CACHED = f"{UNIT}test_cached_values.py::test_"


class Bound(NamedTuple):
    """The bound of a row, as the code has it, and a test that goes past it."""

    text: str
    test: str


def size(count: int) -> str:
    return f"{count // 1024**2:,} MiB" if count % 1024**2 == 0 else f"{count // 1024:,} KiB"


def limit_of(concurrency: int) -> int:
    """Return how many slots a task may use while there are others."""
    clock = ManualClock()
    tested = throttle.Throttle(concurrency, clock)
    for task in ("first", "second"):
        tested.on_started(task)
        tested.on_finished(task)
    count = 0
    while tested.has_capacity("slow"):
        tested.on_started("slow")
        count += 1
    return count


OPEN_CONNECTIONS = f"{connections.OPEN_FILES_SHARE:.0%}".replace("%", " %")
BOUNDS = {
    "head of a request; its trailers; a chunk's extension": Bound(
        size(http_limits.MAX_HEAD_BYTES), f"{HTTP_LIMITS}head_or_trailer_over_the_limit_gets_431_before_it_ends"
    ),
    "payload of a delivery": Bound(
        size(FUNCTION.max_body_bytes),
        f"{FUNCTION_TESTS}invalid_requests.py::test_body_over_the_limit_is_refused_and_closes_the_connection",
    ),
    "rest of a refused body": Bound(
        f"{messages.LINGER_SECONDS:g} s", f"{HTTP_LIMITS}refused_client_that_does_not_stop_sending_is_cut_off"
    ),
    "report, heartbeat or batch of reports": Bound(
        size(callback_app.MAX_REPORT_BYTES), f"{WORKER_TESTS}callbacks.py::test_report_over_the_size_limit_is_rejected"
    ),
    "reports in a batch": Bound(
        f"{report_batch.MAX_BATCH_REPORTS}", f"{CALLER}batch_with_thousands_of_reports_is_refused_as_a_whole"
    ),
    "URL of a report in a batch": Bound(
        size(http_limits.MAX_HEAD_BYTES), f"{CALLER}malformed_url_in_a_batch_concerns_its_report_alone"
    ),
    "time to send a head, and then a body, in all": Bound(
        f"{http_limits.REQUEST_TIMEOUT_SECONDS:g} s",
        f"{HTTP_LIMITS}client_that_does_not_complete_its_first_request_is_disconnected",
    ),
    "time in which a client reads nothing of a response": Bound(
        f"{http_limits.REQUEST_TIMEOUT_SECONDS:g} s",
        f"{HTTP_LIMITS}client_that_does_not_read_its_response_is_disconnected",
    ),
    "idle connection to a server": Bound(
        f"{server.KEEP_ALIVE_SECONDS} s", f"{HTTP_LIMITS}idle_connection_is_closed_after_its_timeout"
    ),
    "connections to a server": Bound(
        f"{connections.MAX_CONNECTIONS:,}, or {OPEN_CONNECTIONS} of `ulimit -n` if that is less",
        f"{ATTACK}test_silent_clients.py::test_silent_clients_make_room_for_others",
    ),
    "connections of one address": Bound(
        f"{connections.PEER_SHARE:.0%} of these, enough for a gateway".replace("%", " %"),
        f"{ATTACK}test_silent_clients.py::test_running_requests_of_one_address_stay_and_further_ones_are_refused",
    ),
    "Host headers that a loopback server remembers": Bound(
        f"{loopback.MAX_KNOWN_HOSTS}", f"{CACHED}hosts_of_a_developers_machine"
    ),
    "sync handlers at the same time": Bound(
        f"{FUNCTION.max_threads}", f"{FUNCTION_TESTS}handlers.py::test_sync_handlers_run_in_a_bounded_number_of_threads"
    ),
    "accepted (202) jobs in a function": Bound(
        f"{FUNCTION.max_background_jobs}",
        f"{FUNCTION_TESTS}background.py::test_job_above_the_limit_is_answered_busy_without_a_report",
    ),
    "cleanup of a handler whose job was cancelled": Bound(
        f"{FUNCTION.cancel_grace_seconds:g} s", f"{WORKER_TESTS}cancellation.py::test_cleanup_has_a_grace_time"
    ),
    "expired jobs that end in one statement": Bound(
        re.findall(r"expire_jobs\(max_jobs integer DEFAULT (\d+)\)", SCHEMA)[0],
        f"{INTEGRATION}database/test_expiry.py::test_claims_expire_a_flood_in_batches_and_start_none_of_it",
    ),
    "jobs in a request": Bound(
        f"{delivery_batch.MAX_BATCH_JOBS}",
        f"{UNIT}wire/test_delivery_batch.py::test_malformed_request_is_rejected_with_a_reason",
    ),
    "payloads in a request with several jobs": Bound(
        f"{delivery_batch.MAX_PAYLOAD_CHARACTERS:,} characters",
        f"{UNIT}worker/test_in_flight.py::test_batch_is_limited_by_the_size_of_its_payloads",
    ),
    "fields of a payload that an error names": Bound(
        f"{validation_errors.MAX_LISTED_ERRORS}",
        f"{UNIT}function/test_validation_errors.py::test_twenty_errors_are_listed_and_the_rest_is_counted",
    ),
    "result that is stored": Bound(
        size(reports.MAX_RESULT_BYTES), f"{UNIT}wire/test_stored_result.py::test_retention_and_size_are_limited"
    ),
    "result of a step, payload of a child or a signal": Bound(
        size(steps.MAX_STEP_BYTES), f"{DURABLE}limits.py::test_result_of_a_step_in_a_request_is_limited"
    ),
    "request with steps": Bound(
        size(steps.MAX_STEPS_BODY_BYTES), f"{DURABLE}limits.py::test_request_with_steps_is_limited"
    ),
    "steps of a job": Bound(f"{steps.MAX_STEPS:,}", f"{DURABLE}limits.py::test_steps_of_a_job_are_limited"),
    "name of a step or a signal": Bound(
        f"{steps.MAX_STEP_NAME_CHARACTERS} characters",
        f"{DURABLE}errors.py::test_misuse_fails_the_job_with_a_clear_error",
    ),
    "depth of calls of child jobs": Bound("20", f"{DURABLE}limits.py::test_depth_of_calls_is_limited"),
    "dependencies of a job, jobs of `add_batch`": Bound(
        "10,000", f"{INTEGRATION}database/test_dependencies.py::test_invalid_dependencies_are_refused"
    ),
    "period of a unique job": Bound(
        f"{unique.MAX_PERIOD.days} days", f"{INTEGRATION}database/test_unique_jobs.py::test_invalid_options"
    ),
    "fields that a unique job compares": Bound(
        f"{unique.MAX_FIELDS}", f"{INTEGRATION}database/test_unique_jobs.py::test_invalid_options"
    ),
    "pause by a `Retry-After` of a function": Bound(
        f"{dispatch.MAX_RETRY_AFTER_SECONDS // 86_400} days",
        "tests/unit/worker/test_retry_after.py::test_retry_after_is_a_number_or_a_date",
    ),
    "limits of concurrency and rate": Bound("1,000", f"{LIMITS}the_number_of_limits_is_bounded"),
    "value of a payload or key that a limit counts by": Bound(
        "200 characters", f"{LIMITS}long_values_are_keys_of_bounded_length"
    ),
    "keys of limits that a claim, or a sweep, looks at because something changed": Bound(
        re.findall(r"v_max_keys constant int := ([0-9]+)", SCHEMA)[0],
        "tests/attack/test_malicious_limits.py::test_many_keys_delay_no_claim_and_no_sweep",
    ),
    "wait of a new limit for transactions that write jobs": Bound(
        "3 s", f"{LIMITS}a_busy_table_delays_a_new_limit_only_for_seconds"
    ),
    "signals that a job has not read": Bound(
        "1,000", f"{DURABLE}limits.py::test_signals_that_a_job_has_not_read_are_limited"
    ),
    "groups of steps that a job waits for at once": Bound(
        f"{steps.MAX_WAIT_GROUPS:,}", f"{DURABLE}limits.py::test_things_that_a_job_waits_for_are_limited"
    ),
    "steps in a statement": Bound(
        f"{worker_steps.MAX_BATCH_SIZE} requests", f"{DURABLE}limits.py::test_requests_in_a_statement_are_limited"
    ),
    "result types of steps in a cache": Bound(
        f"{results.MAX_CACHED_TYPES:,}", f"{DURABLE}errors.py::test_misuse_fails_the_job_with_a_clear_error"
    ),
    "time for which a result is stored": Bound(
        f"{reports.MAX_KEEP_SECONDS / 86_400:,.0f} days",
        f"{UNIT}wire/test_stored_result.py::test_retention_and_size_are_limited",
    ),
    "reports in flight, also those that are retried": Bound(
        f"{reporter.MAX_REPORTS:,}; {reporter.MAX_REPORTS_PER_ORIGIN:,} to one host",
        f"{DELIVERIES}silent_callback_server_leaves_places_to_others",
    ),
    "connections for reports": Bound(
        f"{reporter.MAX_CONNECTIONS_PER_HOST} to one host", f"{CLIENT}timeout_includes_the_wait_for_a_free_connection"
    ),
    "retries of a report": Bound(
        f"the lease, at most {reporter.MAX_RETRY_SECONDS / 3600:g} hour", f"{DELIVERIES}lease_is_bounded"
    ),
    "lease (`X-Lease-Seconds`)": Bound(
        f"{headers.MIN_LEASE_SECONDS} s to {headers.MAX_LEASE_SECONDS / 3600:g} hours", f"{DELIVERIES}lease_is_bounded"
    ),
    "callback URL, batch URL": Bound(
        f"{urls.MAX_URL_CHARACTERS} characters", f"{DELIVERIES}urls_of_8_kilobytes_are_the_longest"
    ),
    "URLs of reports in a cache": Bound(f"{urls.report_url.cache_info().maxsize}", f"{CACHED}urls_of_reports"),
    "batch URLs to remember": Bound(f"{report_batcher.MAX_URLS}", f"{DELIVERIES}batch_urls_leave_nothing_behind"),
    "reports that a function puts into a batch": Bound(
        f"{report_batch.MAX_BATCH_REPORTS}; {report_batcher.MAX_BATCH_CHARACTERS:,} characters",
        f"{FUNCTION_TESTS}report_batcher.py::test_batch_is_bounded_in_reports_and_characters",
    ),
    "status line; one header or trailer of a response": Bound(
        f"{client_limits.MAX_FIELD_BYTES} bytes", f"{SERVER}endless_response_breaks_the_connection"
    ),
    "headers or trailers of a response": Bound(
        f"{client_limits.MAX_HEADERS}", f"{SERVER}endless_response_breaks_the_connection"
    ),
    "1xx responses": Bound(
        f"{client_limits.MAX_INFORMATIONAL_RESPONSES}", f"{SERVER}endless_response_breaks_the_connection"
    ),
    "body of a response, never decompressed": Bound(
        size(client.MAX_RESPONSE_BYTES), f"{CLIENT}body_is_truncated_and_does_not_disturb_the_next_request"
    ),
    "line of a response to a batch of jobs": Bound(
        size(client.MAX_RESPONSE_BYTES), f"{STREAM}line_beyond_the_maximum_is_an_error"
    ),
    "error message of a failure": Bound(
        f"{records.MAX_ERROR_CHARACTERS:,} characters",
        f"{UNIT}wire/test_limits.py::test_error_of_a_failure_has_at_most_10_000_characters",
    ),
    "jobs whose errors are grouped": Bound(
        f"the newest {error_groups.MAX_GROUPED_JOBS:,}",
        "tests/integration/operations/test_error_groups.py::test_older_jobs_are_not_counted",
    ),
    "traceback of a failure": Bound(
        f"{size(tracebacks.MAX_TRACEBACK_BYTES)} in JSON; of {tracebacks.MAX_CAUSES} exceptions in a chain, "
        f"{tracebacks.MAX_FRAMES} frames each",
        f"{UNIT}function/test_tracebacks.py::test_a_long_one_keeps_its_end",
    ),
    "connecting to a function or a callback server": Bound(
        f"{client.CONNECT_TIMEOUT_SECONDS:g} s", f"{CLIENT}connect_timeout_is_separate"
    ),
    "exchange with a function": Bound(
        f"{SERVICE.request_timeout_seconds / 3600:g} hours",
        f"{WORKER_TESTS}dispatch.py::test_response_timeout_fails_the_job",
    ),
    "payload of a new job or schedule, as JSON text": Bound(
        size(int(re.findall(r"max_payload_bytes integer not null default (\d+)", SCHEMA)[0])),
        f"{INTEGRATION}database/test_payload_limits.py::test_payload_over_the_maximum_is_refused",
    ),
    "payloads of the jobs that a worker has claimed": Bound(
        size(SERVICE.max_in_flight_bytes),
        f"{ATTACK}test_malicious_enqueue_role.py::test_large_payloads_do_not_fill_the_memory_of_a_worker",
    ),
    "priorities in the search for the next delayed job": Bound(
        re.findall(r"v_priorities >= (\d+)", SCHEMA)[0],
        f"{INTEGRATION}database/test_costs.py::test_next_run_at_reads_a_limited_number_of_priorities",
    ),
    "jobs that a worker runs at the same time": Bound(
        f"{SERVICE.concurrency}", f"{WORKER_TESTS}worker.py::test_concurrency_limits_the_open_requests"
    ),
    "databases of a service": Bound(
        f"{database_list.MAX_DATABASES}",
        f"{UNIT}worker/test_database_list.py::test_invalid_list_is_named_without_addresses",
    ),
    "databases of a service that start at the same time": Bound(
        f"{unit.MAX_STARTING}", f"{INTEGRATION}databases/test_sharing.py::test_idle_databases_have_two_connections_each"
    ),
    "slots that are held for a claim of one of several databases": Bound(
        f"{slots.HOLD_SECONDS:g} s", f"{UNIT}worker/test_slots.py::test_database_that_does_not_respond_keeps_no_slot"
    ),
    "time to open the dashboard of one of several databases": Bound(
        f"{switch.OPEN_TIMEOUT_SECONDS:g} s", f"{DASHBOARD}switch.py::test_database_that_does_not_answer_gets_503"
    ),
    "slots of one task, while there are others": Bound(
        f"{limit_of(SERVICE.concurrency)} of {SERVICE.concurrency}",
        f"{UNIT}worker/test_throttle.py::test_task_at_its_limit_leaves_slots_to_others",
    ),
    "jobs that a worker claims beyond its slots": Bound(
        f"{prefetch.MAX_PREFETCH}", f"{UNIT}worker/test_prefetch.py::test_size_has_a_maximum"
    ),
    "accepted (202) jobs that a worker remembers": Bound(
        f"{cancellation.MAX_ACCEPTED_JOBS:,}",
        f"{UNIT}worker/test_cancellation.py::test_number_of_remembered_accepted_jobs_is_limited",
    ),
    "busy tasks that a worker remembers": Bound(
        f"{throttle.MAX_BUSY_TASKS}",
        f"{UNIT}worker/test_throttle.py::test_number_of_remembered_busy_tasks_is_limited",
    ),
    "tasks and origins whose batches a worker remembers": Bound(
        f"{batching.MAX_ENTRIES:,}",
        f"{UNIT}worker/test_batching.py::test_number_of_remembered_tasks_and_origins_is_limited",
    ),
    "tasks whose pace a worker remembers": Bound(
        f"{prefetch.MAX_TASKS:,}",
        f"{UNIT}worker/test_prefetch.py::test_only_the_tasks_that_finished_last_are_remembered",
    ),
    "tasks whose `max_attempts` a worker remembers": Bound(
        f"{batching.MAX_ENTRIES:,}", f"{UNIT}worker/test_task_limits.py::test_only_a_thousand_tasks_are_remembered"
    ),
    "settlements in a statement": Bound(
        f"{settlement.MAX_BATCH_SIZE}", f"{UNIT}worker/test_settlement.py::test_batch_has_a_maximum_size"
    ),
    "attempts of a day that move into its partition of the history": Bound(
        f"{int(re.findall(r'v_rows > ([0-9]+)', SCHEMA)[0]):,}",
        f"{PARTITIONS}day_with_many_attempts_stays_in_the_default_partition",
    ),
    "partitions of the history": Bound(
        f"about {re.findall(r'86400 / ([0-9]+) from', SCHEMA)[0]}, and those of the next days",
        f"{PARTITIONS}long_retention_has_a_bounded_number_of_partitions",
    ),
    "days of the history whose partitions are made ahead": Bound(
        f"{pruner.DAYS_AHEAD}", f"{PARTITIONS}attempt_of_a_day_without_a_partition_is_recorded"
    ),
    "names of tasks in metrics": Bound(
        f"{metrics.MAX_LABEL_VALUES}",
        f"{UNIT}telemetry/test_metrics.py::test_label_limiter_replaces_names_beyond_the_limit",
    ),
    "rules of schedules in a cache": Bound(
        f"{decide.parse_cached.cache_info().maxsize:,}", f"{CACHED}rules_of_schedules"
    ),
    "cron rule": Bound(
        f"{cron.MAX_RULE_CHARACTERS:,} characters",
        f"{UNIT}scheduler/test_invalid_schedules.py::test_invalid_schedule_error_names_place_and_value",
    ),
    "`jitter_seconds`, `catch_up_window_seconds` and `expires_in_seconds` of a schedule": Bound(
        "a year" if rule.MAX_SECONDS == 366 * 86_400 else "",
        f"{UNIT}scheduler/test_invalid_schedules.py::test_invalid_schedule_error_names_place_and_value",
    ),
    "connecting to a database server": Bound(
        f"{address.CONNECT_TIMEOUT_SECONDS:g} s for each host",
        f"{INTEGRATION}database/test_silent_servers.py::test_second_host_is_used_if_the_first_one_is_silent",
    ),
    "list of tasks of a function": Bound(
        f"{size(bounded.MAX_LIST_BYTES)}, not compressed", f"{LISTING}a_listing_is_neither_large_nor_compressed"
    ),
    "time to read a list of tasks": Bound(
        f"{task_discovery.TIMEOUT_SECONDS:g} s", f"{LISTING}a_listing_that_drips_is_given_up"
    ),
    "lists of tasks in the dashboard's cache": Bound(
        f"{task_discovery.MAX_CACHED_LISTS}, for {task_discovery.CACHE_TTL_SECONDS:g} s",
        f"{LISTING}lists_of_many_tasks_leave_nothing_behind",
    ),
    "form for a listed JSON Schema, in a separate process": Bound(
        f"{limits.TIMEOUT_SECONDS:g} s; {size(limits.MAX_MEMORY_BYTES)}",
        f"{LISTING}work_that_takes_too_much_memory_ends",
    ),
    "form that is sent to the dashboard": Bound(
        f"{size(forms.MAX_FORM_BYTES)}; {forms.MAX_FIELDS:,} fields",
        f"{DASHBOARD}security.py::test_invalid_form_bodies_are_rejected",
    ),
    "filters whose counts by state are cached; time to count": Bound(
        f"{stats.MAX_CACHED_FILTERS}; {stats.MATCHING_TIMEOUT_SECONDS:g} s",
        f"{INTEGRATION}operations/test_stats.py::test_counts_of_a_filter_are_by_state",
    ),
    "ranges and tasks whose past is cached for charts": Bound(
        f"{throughput.MAX_CACHED_RANGES}",
        f"{INTEGRATION}operations/test_stats.py::test_throughput_of_a_range_has_its_periods",
    ),
    "users of the dashboard; their names": Bound(
        f"{users.MAX_USERS}; {users.MAX_NAME_CHARACTERS} characters",
        f"{DASHBOARD}users.py::test_invalid_tokens_are_rejected_and_not_quoted",
    ),
    "logins to the dashboard": Bound(
        f"{sessions.MAX_LOGINS:,}", f"{DASHBOARD}security.py::test_number_of_logins_is_limited"
    ),
    "wrong tokens in a minute": Bound(
        f"{login.MAX_LOGIN_FAILURES_PER_MINUTE}",
        f"{ATTACK}test_malicious_web_page.py::test_wrong_tokens_of_a_stranger_do_not_lock_the_owner_out",
    ),
    "bulk actions of a dashboard that run; that are shown": Bound(
        f"{bulk.MAX_RUNNING}; {bulk.MAX_SHOWN}", f"{DASHBOARD}bulk_progress.py::test_number_of_actions_is_limited"
    ),
    "tasks whose limit of attempts was learned": Bound(
        "10,000", f"{INTEGRATION}worker/test_learned_attempts.py::test_record_is_limited"
    ),
    "live pages": Bound(f"{live.MAX_STREAMS}", f"{DASHBOARD}live.py::test_number_of_streams_is_limited"),
    "jobs in an answer to an assistant": Bound(
        f"{assistant.MAX_JOBS}", f"{ASSISTANT}read_tools.py::test_wrong_arguments_are_explained"
    ),
    "tasks, queues, workers, schedules or triggers in such an answer": Bound(
        f"{assistant.MAX_ITEMS}; {assistant.MAX_NAMES} names of tasks or checks",
        f"{UNIT}mcp/test_plain_values.py::test_list_has_a_maximum_length",
    ),
    "latest attempts, steps, signals or children of a job in such an answer": Bound(
        f"{assistant.MAX_RECORDS}", f"{ASSISTANT}read_tools.py::test_latest_steps_and_attempts_of_many_are_shown"
    ),
    "text in such an answer": Bound(
        f"{assistant.MAX_LISTED_CHARACTERS} characters in a list, {assistant.MAX_CHARACTERS:,} in a job's details",
        f"{ASSISTANT}read_tools.py::test_error_is_cut_in_lists_and_longer_in_details",
    ),
    "payload that an assistant reads or sends": Bound(
        f"{assistant.MAX_PAYLOAD_CHARACTERS:,} characters", f"{ASSISTANT}read_tools.py::test_large_payload_is_cut"
    ),
    "ids in a change by an assistant": Bound(
        f"{assistant.MAX_IDS}", f"{ASSISTANT}change_tools.py::test_wrong_arguments_are_explained"
    ),
    "time for which an assistant waits for a job": Bound(
        f"{assistant.MAX_WAIT_SECONDS:g} s", f"{ASSISTANT}read_tools.py::test_wrong_arguments_are_explained"
    ),
    "changes that an assistant has planned": Bound(
        f"{assistant.MAX_PLANS}, for {assistant.PLAN_TTL_SECONDS:g} s",
        f"{ASSISTANT}change_tools.py::test_oldest_of_many_plans_is_forgotten",
    ),
    "request of an assistant over HTTP": Bound(
        size(assistant.MAX_REQUEST_BYTES), f"{ASSISTANT}http.py::test_large_request_is_refused"
    ),
    "sessions of assistants over HTTP": Bound(
        f"{assistant.MAX_SESSIONS}", f"{ASSISTANT}http.py::test_number_of_sessions_is_limited"
    ),
    "reason of a paused schedule": Bound(
        f"{int(re.findall(r'coalesce.left.reason, ([0-9]+)., s.pause_reason', SCHEMA)[0]):,} characters",
        f"{INTEGRATION}scheduler/test_schedule_pauses.py::test_long_reason_is_cut_off",
    ),
    "jobs that `explain_wait` counts before a job": Bound(
        f"{int(re.findall(r'jobs_ahead.job.id, ([0-9]+)', SCHEMA)[0]):,}",
        f"{INTEGRATION}operations/test_explain_wait.py::test_busy_workers_and_jobs_ahead",
    ),
    "pauses": Bound(
        f"{int(re.findall(r'v_max_pauses constant int := ([0-9]+)', SCHEMA)[0]):,}",
        f"{INTEGRATION}database/test_pauses.py::test_number_of_pauses_is_limited",
    ),
    "name of an actor; target of an entry in the audit list": Bound(
        "{}; {} characters".format(*re.findall(r"audit_log_\w+_length CHECK \(\(length\(\w+\) <= ([0-9]+)", SCHEMA)),
        f"{ATTACK}test_malicious_operator.py::test_a_hostile_name_is_cut_and_steers_nothing",
    ),
    "filter; details of such an entry": Bound(
        "{:,}; {:,} characters".format(
            int(re.findall(r"'jobfn.filter', true\), ([0-9]+)", SCHEMA)[0]),
            int(re.findall(r"v_max_details constant int := ([0-9]+)", SCHEMA)[0]),
        ),
        f"{INTEGRATION}operations/test_audit.py::test_long_texts_are_cut",
    ),
    "retention of the audit list": Bound(
        re.findall(r"audit_retention interval not null default '([0-9]+ days)", SCHEMA)[0],
        f"{INTEGRATION}operations/test_audit.py::test_old_entries_are_pruned_in_batches",
    ),
    "entries that a page of the audit list reads": Bound(
        f"the newest {int(re.findall(r'order by a.id desc.    limit ([0-9]+)', QUERIES, re.DOTALL)[0]):,} that match",
        f"{INTEGRATION}operations/test_audit.py::test_list_reads_the_newest_entries",
    ),
    "entries of the audit list in an answer to an assistant": Bound(
        f"{assistant.MAX_ITEMS}", f"{ASSISTANT}read_tools.py::test_list_audit"
    ),
    "tenants that one claim looks at, for each priority": Bound(
        re.findall(r"v_max_tenants constant int := ([0-9]+)", SCHEMA)[0],
        f"{INTEGRATION}database/test_tenants.py::test_all_jobs_of_many_tenants_are_claimed",
    ),
    "weight of a tenant": Bound(
        "{} to {:,}".format(*map(int, re.findall(r"weight >= ([0-9]+)\) AND \(weight <= ([0-9]+)\)", SCHEMA)[0])),
        f"{INTEGRATION}database/test_tenants.py::test_invalid_weight",
    ),
}


def rows() -> list[list[str]]:
    """Return the cells of the table's rows."""
    section = (ROOT / "docs" / "security.md").read_text("utf-8").partition("\n## Limits\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [re.split(r" ?\| ?", line.removeprefix("| ").removesuffix(" |")) for line in lines[2:]]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_row_has_the_bound_of_the_code_and_a_test_that_goes_past_it(row: list[str]) -> None:
    what, bound, setting, past = row
    assert what in BOUNDS, "map the row to the code in BOUNDS"
    assert bound == BOUNDS[what].text
    assert past
    for name in re.findall(r"JOB\w+", setting):
        fields: dict[str, Any] = {**FunctionSettings.model_fields, **ServiceSettings.model_fields}
        assert name in {str(field.validation_alias) for field in fields.values()}
    path, _, test = BOUNDS[what].test.partition("::")
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_table_has_each_bound_once() -> None:
    assert sorted(row[0] for row in rows()) == sorted(BOUNDS)


#: Collections that objects keep and caches of functions, by file. Each is bounded by a row of the table, or by the
#: number of things that its comment names.
GROWING = {
    "dashboard/bulk.py": ["_actions"],  # bulk actions of a dashboard that are shown
    "dashboard/login.py": ["_failed_at"],  # wrong tokens in a minute
    "dashboard/sessions.py": ["_logins"],  # logins to the dashboard
    "dashboard/switch.py": ["_dashboards", "_locks"],  # databases of a service
    "dashboard/task_discovery.py": ["_cache"],  # lists of tasks in the dashboard's cache
    "database/platform_store.py": ["_reaped"],  # jobs of one poll
    "databases/callbacks.py": ["_apps"],  # databases of a service
    "databases/discovery.py": ["_problems"],  # databases of a service
    "databases/service.py": ["_running", "_units", "_urls"],  # databases of a service
    "databases/unit.py": ["_names"],  # databases of a service
    "function/background.py": ["_asked", "_jobs"],  # accepted jobs
    "function/cancellation.py": ["_handlers", "_watching"],  # connections to a server
    "function/batch_endpoint.py": ["_lines", "_unsent"],  # jobs in a request
    "function/durable/run.py": ["_counts", "_failures", "_records", "_then", "_unread", "_waits"],  # steps of a job
    "function/dependencies.py": ["_instances"],  # resources in the app's code
    "function/report_batcher.py": ["_lanes", "_unsupported"],  # reports in flight; batch URLs
    "function/reporter.py": ["_in_flight", "_per_origin"],  # reports in flight
    "function/asgi_app.py": ["_requests"],  # connections to a server
    "function/threads.py": ["_pending"],  # connections to a server
    "http/batch_turns.py": ["_waiting"],  # connections to a server, or slots
    "http/connections.py": ["_open", "_per_peer"],  # connections to a server
    "http/limits.py": ["_unread", "_waiting"],  # connections to a server
    "http/loopback.py": ["_known_hosts"],  # Host headers
    "in_process.py": ["_running", "_waiting"],  # slots
    "mcp/confirmation.py": ["_plans"],  # changes that an assistant has planned
    "operations/stats.py": ["_matching"],  # a few filters
    "operations/throughput.py": ["_past", "_ranges"],  # minutes of a day; a few tasks
    "scheduler/platform_poller.py": ["_plans"],  # schedules in the table
    "telemetry/metrics.py": ["_buckets"],  # names of tasks in metrics
    "worker/batching.py": ["_accepted", "_refused_at", "_seconds"],  # tasks and origins
    "worker/function_urls.py": ["_ignored"],  # rows of the platform's table
    "worker/in_flight.py": ["_by_id", "prefetched"],  # slots, and jobs claimed beyond them
    "worker/lease_renewer.py": ["_misses"],  # jobs in flight
    "worker/prefetch.py": ["_slow_since", "_tasks"],  # tasks that are prefetched; tasks whose pace is remembered
    "worker/settlement.py": ["_queue", "_retries"],  # jobs in flight, and connections to the callback server
    "worker/slots.py": ["_limited", "_waiting", "busy"],  # databases of a service; busy tasks
    "worker/telemetry/instrumented_deliveries.py": ["_cancelled"],  # jobs that are being delivered
    "worker/cancellation.py": ["_accepted", "_closings"],  # accepted jobs to remember; slots
    "worker/worker.py": ["_deliveries"],  # slots
    "worker/steps.py": ["_queue"],  # connections to the callback server
    "worker/task_limits.py": ["_known"],  # tasks whose max_attempts a worker remembers
    "worker/throttle.py": ["_busy"],  # busy tasks
}


def test_every_collection_that_grows_is_known() -> None:
    found = {}
    for path in sorted((ROOT / "src" / "jobfn").rglob("*.py")):
        name = path.relative_to(ROOT / "src" / "jobfn").as_posix()
        if not name.startswith(("testing/", "devserver/", "cli/")) and (grown := growing_attributes(path)):
            found[name] = sorted(grown)
    assert found == {name: sorted(attributes) for name, attributes in GROWING.items()}


def growing_attributes(path: Path) -> set[str]:
    """Return the attributes that a module's classes start as an empty collection."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Attribute) and node.value is not None:
            value = ast.unparse(node.value)
            if value in {"{}", "[]", "set()"} or value.startswith(("deque(", "asyncio.Queue(", "OrderedDict(")):
                names.add(node.target.attr)
    return names


def test_queues_and_caches_have_a_size() -> None:
    """A cache of functions without a size, and a queue without one, grow with whatever is put into them."""
    unbounded = re.compile(r"lru_cache\(maxsize=None|lru_cache\n|asyncio\.Queue\(\)|queue\.\w*Queue\(\)")
    for path in sorted((ROOT / "src" / "jobfn").rglob("*.py")):
        assert not unbounded.search(path.read_text("utf-8")), path
