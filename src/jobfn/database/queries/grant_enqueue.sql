-- What a role that enqueues needs: the way in, and every form of adding. They act with their owner's rights.
grant usage on schema @schema@ to @role@;
grant execute on function
    @schema@.add_job(text, json, text, text, timestamptz, int, int),
    @schema@.add_job(text, text, text, text, timestamptz, int, int),
    @schema@.add_job(uuid, text, json, text, text, timestamptz, int, int),
    @schema@.add_jobs(text, json[], text[], text[], timestamptz[], int, int, uuid),
    @schema@.add_scheduled_job(text, text, json, text, text, int, int),
    @schema@.add_scheduled_job(text, json, json, text, text, int, int),
    @schema@.add_scheduled_job(uuid, text, json, json, text, text, int, int)
    to @role@;
