-- When the next delayed job is due, in seconds from now; null when none is delayed. $1: jobs that became due within
-- this time count too, as due now: they did so after whoever asks has looked for ready ones.
select extract(epoch from @schema@.next_due($1::interval) - now())::float8
