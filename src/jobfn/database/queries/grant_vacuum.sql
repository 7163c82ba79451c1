-- PostgreSQL 17 and later: vacuuming a table without owning it. Before, that is its owner's.
grant maintain on @schema@.jobs to @role@
