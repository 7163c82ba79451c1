-- A job that replaces a waiting one by its key brings its own expiry, or none.

create function @schema@.tg_set_expiry() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    new.expires_at := nullif(current_setting('jobfn.expires_at', true), '')::timestamptz;
    return new;
end
$$;

comment on function @schema@.tg_set_expiry() is 'Give a replaced job the expiry of the one that replaces it.';

-- Only the functions that replace a job write its task.
create trigger _100_set_expiry_of_replaced_job
    before update of task_identifier on @schema@.jobs
    for each row
    when (old.expires_at is not null or coalesce(current_setting('jobfn.expires_at', true), '') <> '')
    execute function @schema@.tg_set_expiry();

revoke execute on all functions in schema @schema@ from public;
