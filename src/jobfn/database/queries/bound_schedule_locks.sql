-- For the transaction that locks schedules. A scheduler that stops in the middle of it, machine and all, must not
-- keep them for the hours that a network connection may take to end; and a lock of somebody else's on one job must
-- not keep all schedules from theirs.
select set_config('idle_in_transaction_session_timeout', '10s', true), set_config('lock_timeout', '1s', true)
