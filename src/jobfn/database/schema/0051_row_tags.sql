-- A failover that loses transactions may assign the ids of lost jobs again. Callback tokens name the rows of their jobs, so
-- that the token of a lost job is not valid for another one.

create function @schema@.same_jobs(job_ids bigint[], row_tags bigint[]) returns bigint[]
    language sql
    stable
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set jit = off
as $$
    select array(
        select case
            when given.row_tag is null then given.job_id
            when exists (
                select from @schema@.jobs j
                where j.id = given.job_id
                    -- the low 32 bits of the microseconds, as Job.row_tag
                    and (extract(epoch from j.created_at) * 1000000)::bigint & 4294967295 = given.row_tag
            ) then given.job_id
            else -given.job_id
        end
        from unnest(job_ids, row_tags) with ordinality as given (job_id, row_tag, position)
        order by given.position
    )
$$;

comment on function @schema@.same_jobs is
    'Return the ids, negative where the job of that id was not added at the time that the tag names; null: at any time.';

-- Those who may settle jobs may compare them.
revoke execute on function @schema@.same_jobs from public;

select @schema@.grant_like('has_lease', '{same_jobs}');
