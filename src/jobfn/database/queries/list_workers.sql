select w.worker_id, w.host, w.pid, w.version, w.parts, w.concurrency, w.in_flight, w.started_at, w.seen_at,
    w.seen_at > now() - 3 * w.beat as is_alive
from @schema@.workers w
order by w.worker_id, w.host, w.pid
