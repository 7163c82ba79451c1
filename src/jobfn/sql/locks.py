"""Numbers of PostgreSQL advisory locks.

A lock is valid in one database, for all schemas in it. Two operations with the same number would wait for each other.
Claims lock queues with advisory locks, too, by a 64-bit hash (``schema/0005_claim.sql``).
"""

#: One migration at a time. The number spells "jobfn".
MIGRATION_LOCK = 456568464
#: One sync of schedules from code at a time.
SCHEDULE_SYNC_LOCK = 456568465
#: One ``jobfn sync`` at a time.
TASK_SYNC_LOCK = 456568469
#: One ``jobfn triggers apply`` at a time.
TRIGGER_APPLY_LOCK = 456568466
