"""Statements on jobfn's schema that several subjects and scripts use."""

ADD_JOBS = """
    insert into app_jobs.jobs (task_identifier, payload)
    select 'noop', json_build_object('n', n) from generate_series(1, $1::int) n
"""
COUNT_READY = "select count(*) from app_jobs.jobs where not exhausted and run_at <= now()"
TABLE_SIZE = "select pg_relation_size('app_jobs.jobs') + pg_indexes_size('app_jobs.jobs')"
HISTORY_SIZE = "select pg_total_relation_size('app_jobs.job_runs')"
WAL_POSITION = "select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint"
COUNT_CONNECTIONS = """
    select count(*) from pg_stat_activity where datname = current_database() and application_name like 'jobfn%'
"""
