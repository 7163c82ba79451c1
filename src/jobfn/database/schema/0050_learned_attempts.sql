-- Limits of attempts that workers learn from functions (max_attempts of @task), so that lists show the limit that
-- holds. Not a part of task_settings: the function applies this limit, and new jobs do not take it.

create table @schema@.learned_attempts (
    task_identifier text primary key,
    max_attempts int not null,
    learned_at timestamptz not null default now(),
    constraint learned_attempts_task_identifier_length check (length(task_identifier) between 1 and 126),
    constraint learned_attempts_max_attempts_positive check (max_attempts > 0)
);

comment on table @schema@.learned_attempts is
    'The max_attempts that functions apply to jobs of their tasks, as workers have learned it. For people.';

create function @schema@.record_learned_attempts(tasks text[], max_attempts int[]) returns void
    language sql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
    delete from @schema@.learned_attempts l
    using unnest(tasks, record_learned_attempts.max_attempts) as given (task, limit_)
    where l.task_identifier = given.task and given.limit_ is null;

    insert into @schema@.learned_attempts as l (task_identifier, max_attempts)
    select given.task, given.limit_
    from unnest(tasks, record_learned_attempts.max_attempts) as given (task, limit_)
    where given.limit_ > 0
        and length(given.task) between 1 and 126
        and (select count(*) from @schema@.learned_attempts) < 10000
    order by given.task
    on conflict (task_identifier) do update set max_attempts = excluded.max_attempts, learned_at = now()
    where l.max_attempts <> excluded.max_attempts;
$$;

comment on function @schema@.record_learned_attempts(text[], int[]) is
    'For workers: record max_attempts of tasks, or null for tasks without. The table has at most 10,000 rows.';

revoke execute on function @schema@.record_learned_attempts from public;
select @schema@.grant_like('renew_leases', '{record_learned_attempts}');
select @schema@.grant_like('task_settings', '{learned_attempts}');
