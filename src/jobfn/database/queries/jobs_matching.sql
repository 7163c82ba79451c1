    -- Not a statement by itself: @matching@ in others. $1 ids below this, $2 task, $3 queue, $4 state, $5 part of the
    -- last error, $6 what is searched, $7 the same as an id, $8 tenant, $9 worker, $10 at least so old, $11 at most so
    -- old, null: any; $12 and $13: between which keys those lie that begin with $6, so that their index finds them.
    ($1::bigint is null or j.id < $1)
    and ($2::text is null or j.task_identifier = $2)
    and ($3::text is null or j.queue_name = $3)
    and ($4::text is null or case $4
        when 'ready' then not j.is_held and not j.exhausted and j.run_at <= now()
        when 'delayed' then not j.is_held and not j.exhausted and j.run_at > now()
        when 'running' then j.is_held
        when 'failed' then not j.is_held and j.exhausted
    end)
    and ($5::text is null or (j.last_error is not null and strpos(lower(j.last_error), lower($5)) > 0))
    and (
        $6::text is null
        or j.id = $7::bigint
        or (j.key >= $12::text and ($13::text is null or j.key < $13) and starts_with(j.key, $6))
        or ($7 is null and starts_with(j.task_identifier, $6))
        or ($7 is null and j.last_error is not null and strpos(lower(j.last_error), lower($6)) > 0)
    )
    and ($8::uuid is null or j.database_id = $8)
    and ($9::text is null or (j.locked_by = $9 and j.is_held))
    and ($10::interval is null or j.created_at <= now() - $10)
    and ($11::interval is null or j.created_at > now() - $11)
