-- Who may do what. Nobody may do anything here unless it is granted: USAGE on the schema alone opens nothing. What
-- `jobfn db migrate --grant-enqueue` and `--grant-worker` give stands in queries/grant_*.sql.
--
-- A migration after this one that makes a function takes it from public itself, or has this statement again.
revoke execute on all functions in schema @schema@ from public;

-- What workers, callback servers and schedulers call acts with the rights of the schema's owner, as add_job does: so
-- a worker's role needs no right on the tables, and can do with a job what these functions do and nothing else.
alter function @schema@.claim_jobs security definer;
alter function @schema@.renew_leases security definer;
alter function @schema@.note_progress security definer;
alter function @schema@.bury_expired_jobs security definer;
alter function @schema@.settle_held_jobs security definer;
alter function @schema@.get_job security definer;
alter function @schema@.complete_job security definer;
alter function @schema@.fail_job security definer;
alter function @schema@.release_jobs security definer;
alter function @schema@.take_back_jobs security definer;
alter function @schema@.get_scheduled_job security definer;
alter function @schema@.run_scheduled_job security definer;
alter function @schema@.release_scheduled_jobs security definer;
alter function @schema@.advance_schedule security definer;
