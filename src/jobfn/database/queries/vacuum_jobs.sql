-- Outside a transaction. Steps back where somebody else does it; keeps the file's size, because giving pages back would
-- lock the table; and uses one process, because the jobs want the others.
vacuum (skip_locked, truncate false, parallel 0) @schema@.jobs
