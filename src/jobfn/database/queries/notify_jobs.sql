-- There may be work.
select pg_notify('jobs:insert', '')
