-- Triggers send signals: many at once, by the keys of the jobs only. A number in a row is not the id of a job.

create function @schema@.signal_jobs(job_keys text[], event text, payloads json[]) returns int
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set jit = off
as $$
declare
    v_signal record;
    v_sent int := 0;
begin
    for v_signal in
        select j.id, given.payload
        from unnest(job_keys, payloads) with ordinality as given (key, payload, position)
        join @schema@.jobs j on j.key = given.key
        order by j.id, given.position -- the order in which settlements lock jobs
    loop
        if @schema@.signal(v_signal.id, event, v_signal.payload) then
            v_sent := v_sent + 1;
        end if;
    end loop;
    return v_sent;
end
$$;

comment on function @schema@.signal_jobs(text[], text, json[]) is
    'Send a signal to the jobs with these keys, each with its payload. Keys without a job are ignored. Returns the number '
    'of signals sent.';

select @schema@.grant_like('signal', '{signal_jobs}');

revoke execute on all functions in schema @schema@ from public;
