-- Roles of workers may count schedules that are paused or broken, for metrics.

select @schema@.grant_like('claim_jobs', '{scheduled_jobs}', 'select (paused_at, paused_until, last_error)');
