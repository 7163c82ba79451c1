"""Tools that change something: nothing happens before it is confirmed."""

import asyncpg
import pytest

pytest.importorskip("mcp", reason="the MCP SDK is not installed: run make setup")

from jobfn.database.migrate import migrate
from jobfn.database.privileges import Grants
from jobfn.database.schedules import NewSchedule, ScheduleTable
from support.assistant import MODES, Connect, Person
from support.clock import ManualClock
from support.durable import park, parked, start, step, wait
from support.jobs import TENANT, Jobs
from support.roles import login_role


async def failed(jobs: Jobs, task: str = "mail") -> int:
    job = await jobs.add(task, max_attempts=1)
    assert await jobs.claim_id(tasks=[task]) == job
    await jobs.fail(job)
    return job


@pytest.mark.parametrize("mode", MODES)
async def test_person_is_asked_and_confirms(connect: Connect, jobs: Jobs, mode: str) -> None:
    job = await jobs.add("mail")
    person = Person()
    assistant = await connect(person, mode=mode)
    result = await assistant.call("remove_jobs", job_ids=[job])
    assert (result["changed"], result["done"], result["ids"]) == (True, 1, [job])
    [question] = person.questions
    assert question.startswith(f"Remove 1 job with the ids {job}? Database postgresql://")
    assert question.endswith(", schema app_jobs.")
    assert not await jobs.exists(job)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("person", [Person("decline"), Person("cancel"), Person(confirm=False)])
async def test_person_does_not_confirm(connect: Connect, jobs: Jobs, mode: str, person: Person) -> None:
    job = await jobs.add("mail")
    result = await (await connect(person, mode=mode)).call("remove_jobs", job_ids=[job])
    assert result == {"changed": False, "message": "the user did not confirm: nothing changed"}
    assert await jobs.exists(job)


@pytest.mark.parametrize("mode", MODES)
async def test_client_that_cannot_ask_confirms_a_plan_once(connect: Connect, jobs: Jobs, mode: str) -> None:
    first, second = await jobs.add("mail"), await jobs.add("mail")
    assistant = await connect(mode=mode)
    plan = await assistant.call("remove_jobs", job_ids=[first])
    assert (plan["changed"], plan["plan"].partition("?")[0]) == (False, f"Remove 1 job with the ids {first}")
    assert await jobs.exists(first)
    token = plan["confirmation"]
    other = (
        "the confirmation is unknown, was used, has expired or is for other arguments: call the tool without it first"
    )
    assert await assistant.error("remove_jobs", job_ids=[second], confirmation=token) == other
    wrong = "the confirmation is not that of the plan: nothing changed"
    assert await assistant.error("remove_jobs", job_ids=[first], confirmation="é") == wrong
    assert (await assistant.call("remove_jobs", job_ids=[first], confirmation=token))["done"] == 1
    assert (await jobs.exists(first), await jobs.exists(second)) == (False, True)
    assert await assistant.error("remove_jobs", job_ids=[first], confirmation=token) == other


async def test_plan_expires(connect: Connect, jobs: Jobs) -> None:
    job = await jobs.add("mail")
    clock = ManualClock()
    assistant = await connect(clock=clock)
    plan = await assistant.call("remove_jobs", job_ids=[job])
    clock.advance(300)
    assert "has expired" in await assistant.error("remove_jobs", job_ids=[job], confirmation=plan["confirmation"])
    assert await jobs.exists(job)


async def test_oldest_of_many_plans_is_forgotten(connect: Connect, jobs: Jobs) -> None:
    job = await jobs.add("mail")
    assistant = await connect()
    first = await assistant.call("remove_jobs", job_ids=[job])
    second = await assistant.call("run_jobs_now", job_ids=[job])
    for number in range(99):
        await assistant.call("enqueue_job", task=f"t{number}")
    assert "unknown" in await assistant.error("remove_jobs", job_ids=[job], confirmation=first["confirmation"])
    assert "skipped" in await assistant.call("run_jobs_now", job_ids=[job], confirmation=second["confirmation"])


async def test_person_is_asked_even_if_the_assistant_sends_a_token(connect: Connect, jobs: Jobs) -> None:
    job = await jobs.add("mail")
    assistant = await connect(Person("decline"))
    assert "unknown" in await assistant.error("remove_jobs", job_ids=[job], confirmation="x")
    assert await jobs.exists(job)


async def test_changes_need_a_person_if_the_settings_say_so(connect: Connect, jobs: Jobs) -> None:
    job = await jobs.add("mail")
    refused = await (await connect(confirmation="person")).error("remove_jobs", job_ids=[job])
    assert refused.startswith("changes need the confirmation of a person (JOBFN_MCP_CONFIRMATION=person), and this")
    assert await jobs.exists(job)
    asked = await connect(Person(), confirmation="person")
    assert (await asked.call("remove_jobs", job_ids=[job]))["done"] == 1


async def test_answer_that_does_not_match_the_form_changes_nothing(connect: Connect, jobs: Jobs) -> None:
    job = await jobs.add("mail")
    assistant = await connect(Person(confirm="maybe"), mode="legacy")  # type: ignore[arg-type]  # what a client may send
    error = await assistant.error("remove_jobs", job_ids=[job])
    assert (error, await jobs.exists(job)) == ("the answer does not match the form: nothing changed", True)


async def test_failed_jobs_are_retried_by_a_filter(connect: Connect, jobs: Jobs) -> None:
    job, other = await failed(jobs), await failed(jobs, "report")
    person = Person()
    result = await (await connect(person)).call("retry_jobs", filter={"task": "mail"})
    assert (result["done"], result["ids"]) == (1, [job])
    assert person.questions[0].startswith("Retry 1 job matching {'task': 'mail'}? Database ")
    assert [(await jobs.row(each))["attempts"] for each in (job, other)] == [0, 1]


async def test_change_is_refused_if_many_more_jobs_match_than_were_confirmed(connect: Connect, jobs: Jobs) -> None:
    for _ in range(2):
        await jobs.add("mail")
    assistant = await connect()
    plan = await assistant.call("remove_jobs", filter={"task": "mail"})
    for _ in range(3):
        await jobs.add("mail")
    refused = await assistant.error("remove_jobs", filter={"task": "mail"}, confirmation=plan["confirmation"])
    assert refused == "5 jobs match now, 2 when it was planned: nothing changed, plan again"
    assert await jobs.count() == 5


async def test_delayed_and_parked_jobs_run_now(connect: Connect, jobs: Jobs) -> None:
    job = await jobs.add("mail")
    await jobs.update("run_at = now() + interval '1 hour'")
    asleep = await parked(jobs, "fulfil", wait(1, "sleep", "sleep", seconds=3600))
    assistant = await connect()
    assert (await assistant.confirmed("run_jobs_now", job_ids=[job]))["done"] == 1
    assert (await assistant.confirmed("wake_jobs", job_ids=[asleep]))["done"] == 1
    skipped = await assistant.confirmed("run_jobs_now", job_ids=[job])
    assert (skipped["changed"], skipped["skipped"]) == (False, [{"id": job, "reason": "it is already ready"}])


async def test_completed_job_that_is_stored_runs_again(connect: Connect, jobs: Jobs) -> None:
    await jobs.connection.execute("select app_jobs.set_completed_payload_retention(1)")
    job = await jobs.add("mail", {"id": 1})
    await jobs.claim()
    await jobs.complete(job)
    result = await (await connect()).confirmed("run_jobs_again", job_ids=[job])
    assert (result["done"], result["ids"]) == (1, [job])
    assert await jobs.values(result["new_ids"][0], "task_identifier", "payload") == ("mail", '{"id": 1}')


async def test_running_job_is_cancelled_with_a_reason(connect: Connect, jobs: Jobs) -> None:
    job = await jobs.add("mail")
    await jobs.claim()
    person = Person()
    result = await (await connect(person)).call("cancel_jobs", job_ids=[job], reason="wrong list", include_running=True)
    assert result["done"] == 1
    assert ", with the reason 'wrong list', running ones too? Database " in person.questions[0]
    assert (await jobs.row(job))["last_error"] == "wrong list"


async def test_job_is_added_after_the_person_has_seen_its_payload(connect: Connect, jobs: Jobs) -> None:
    person = Person()
    assistant = await connect(person)
    payload = '{"to": "ada@example.com"}'
    added = await assistant.call(
        "enqueue_job",
        task="mail",
        payload=payload,
        queue="q",
        key="k",
        run_at="2030-01-31T09:00:00+01:00",
        database_id=TENANT,
    )
    assert person.questions[0].startswith(
        "Add a job of the task 'mail', queue 'q', key 'k', run_at '2030-01-31 09:00:00+01:00', "
        f"database_id '{TENANT}', with the payload {payload}? Database "
    )
    assert await jobs.values(added["job_id"], "task_identifier", "queue_name", "key", "payload") == (
        "mail",
        "q",
        "k",
        payload,
    )


async def test_signal_is_sent_to_a_durable_function(connect: Connect, jobs: Jobs) -> None:
    job = await parked(jobs, "fulfil", wait(1, "approved", "wait", event="approved"))
    person = Person()
    assistant = await connect(person)
    assert await assistant.call("send_signal", job_id=job, event="approved", payload="true") == {"changed": True}
    assert person.questions[0].startswith(f"Send the signal 'approved' to job {job}, with the payload true? Database ")
    assert await assistant.call("send_signal", job_id=404, event="approved") == {
        "changed": False,
        "message": "job 404 has ended or does not exist",
    }


async def test_durable_function_is_retried_from_a_step(connect: Connect, jobs: Jobs) -> None:
    job = await start(jobs, "fulfil", step(1, "charge"), step(2, "mail"), wait(3, "sleep", "sleep", seconds=3600))
    await park(jobs, job, [3])
    person = Person()
    result = await (await connect(person)).call("retry_from_step", job_id=job, step="mail")
    assert (result["changed"], result["name"], result["steps"]) == (True, "mail", 2)
    question = f"Retry job {job} from step 'mail'? Forgotten steps: 2; children that have not ended: 0. Database "
    assert person.questions[0].startswith(question)


async def test_schedule_is_run_paused_resumed_and_removed(connect: Connect, jobs: Jobs) -> None:
    table = ScheduleTable(jobs.connection, "app_jobs")
    schedule = await table.add(NewSchedule("report", {"rule": "0 9 * * *"}, key="daily"))
    person = Person()
    assistant = await connect(person)
    ran = await assistant.call("run_schedule", schedule="daily")
    assert (await jobs.row(ran["job_id"]))["task_identifier"] == "report"
    assert person.questions[0].startswith("Run now: the schedule 'daily'? Database ")
    paused = await assistant.call("pause_schedule", schedule="report", seconds=3600, reason="maintenance")
    assert paused == {"changed": True, "id": schedule}
    assert person.questions[1].startswith(
        "Pause: the schedule 'report' for 3600 seconds, with the reason 'maintenance'? Database "
    )
    [row] = await table.all()
    assert (row.paused_at is None, row.paused_until is None, row.pause_reason) == (False, False, "maintenance")
    assert (await assistant.call("resume_schedule", schedule="daily"))["changed"] is True
    assert (await assistant.call("remove_schedule", schedule=str(schedule)))["id"] == schedule
    assert (await table.all(), len(person.questions)) == ([], 4)
    assert "J101" in await assistant.error("run_schedule", schedule="daily")


async def test_task_is_paused_and_resumed(connect: Connect, jobs: Jobs) -> None:
    job = await jobs.add("mail")
    person = Person()
    assistant = await connect(person)
    await assistant.call("pause_jobs", kind="task", name="mail", seconds=600, reason="provider is down")
    question = "Pause 'task mail' for 600 seconds, with the reason 'provider is down'? Database "
    assert person.questions[0].startswith(question)
    [pause] = (await assistant.call("list_pauses"))["pauses"]
    assert (pause["target"], pause["reason"]) == ({"kind": "task", "name": "mail"}, "provider is down")
    assert (await assistant.call("explain_wait", job_id=job))["reasons"][0]["code"] == "paused"
    assert await assistant.call("resume_jobs", kind="task", name="mail") == {"changed": True}
    assert person.questions[1].startswith("Resume 'task mail'? Database ")
    assert await assistant.call("resume_jobs", kind="task", name="mail") == {"changed": False}
    assert "the name of the task is empty" in await assistant.error("pause_jobs", kind="task")


async def test_limit_is_set_paused_and_removed(connect: Connect, jobs: Jobs) -> None:
    person = Person()
    assistant = await connect(person)
    await assistant.call("set_limit", name="mails", task="mail", per="tenant", concurrency=5, rate="100/minute")
    question = (
        "Set the limit 'mails': {'task': 'mail', 'per': 'tenant', 'concurrency': 5, 'rate': '100/minute'}? Database "
    )
    assert person.questions[0].startswith(question)
    [limit] = (await assistant.call("list_limits"))["limits"]
    assert (limit["name"], limit["concurrency"], limit["rate"], limit["set_by"]) == (
        "mails",
        5,
        "100/minute",
        "operator",
    )
    assert await assistant.call("pause_limit_key", name="mails", key="a", seconds=60) == {"changed": True}
    paused = "select paused_until > now() from app_jobs.limit_keys where key = 'a'"
    assert await jobs.connection.fetchval(paused) is True
    await assistant.call("pause_limit_key", name="mails", key="a")
    assert person.questions[1].startswith("Pause for 0:01:00 of the key 'a' of the limit 'mails'? Database ")
    assert person.questions[2].startswith("End the pause of the key 'a' of the limit 'mails'? Database ")
    assert await assistant.call("remove_limit", name="mails") == {"changed": True}
    assert (await assistant.call("list_limits"))["limits"] == []
    assert "J101" in await assistant.error("remove_limit", name="mails")
    assert "the rate 'often' is not valid" in await assistant.error("set_limit", name="x", rate="often")


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("retry_jobs", {}, "pass either job_ids or a filter"),
        ("retry_jobs", {"job_ids": [1], "filter": {"task": "x"}}, "pass either job_ids or a filter"),
        (
            "retry_jobs",
            {"filter": {}},
            "the filter is empty, and would retry all jobs: name a task, a queue or a state [J101]",
        ),
        ("retry_jobs", {"filter": {"task": "x"}}, "no job matches: nothing changed"),
        ("retry_jobs", {"job_ids": [1], "dry_run": True}, "retry_jobs has no argument 'dry_run'"),
        ("retry_jobs", {"job_ids": list(range(1, 102))}, "List should have at most 100 items"),
        ("enqueue_job", {"task": "x", "payload": "{"}, "the payload is not valid JSON text: write it as a string"),
        ("enqueue_job", {"task": "x", "payload": "x" * 10_001}, "String should have at most 10000 characters"),
        ("retry_from_step", {"job_id": 404, "step": "x"}, "job 404 does not exist"),
        ("set_limit", {"name": "x", "concurrency": 0}, "Input should be greater than or equal to 1"),
        ("set_limit", {"name": "x", "concurrency": 1_000_001}, "Input should be less than or equal to 1000000"),
        (
            "set_limit",
            {"name": "x", "per": "user", "concurrency": 1},
            "per='user' is not valid: use tenant, queue, key",
        ),
    ],
)
async def test_wrong_arguments_are_explained(
    connect: Connect, tool: str, arguments: dict[str, object], message: str
) -> None:
    assert message in await (await connect()).error(tool, **arguments)


async def test_role_that_may_only_look_cannot_change_anything(
    connect: Connect, connection: asyncpg.Connection, database: str, jobs: Jobs
) -> None:
    job = await jobs.add("mail")
    async with login_role(connection, database) as role:
        await migrate(connection, "app_jobs", grants=Grants(viewer=(role.name,)))
        assistant = await connect(Person(), dsn=role.dsn)
        assert (await assistant.call("show_job", job_id=job))["state"] == "ready"
        refused = await assistant.error("remove_jobs", job_ids=[job])
        assert "--grant-operator" in refused
    assert await jobs.exists(job)
