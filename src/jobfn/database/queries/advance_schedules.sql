-- $1-$8: one element for each schedule, in advance_schedule's order. The tenant is told since migration 0015.
select step.id, done.*
from unnest(
    $1::bigint[], $2::boolean[], $3::boolean[], $4::timestamptz[], $5::timestamptz[], $6::bigint[],
    $7::timestamptz[], $8::text[]
) as step (id, enqueues, waits, due, next_due, let_go, last_let_go, problem)
cross join lateral @schema@.advance_schedule(
    step.id, step.enqueues, step.waits, step.due, step.next_due, step.let_go, step.last_let_go, step.problem
) as done
