"""The scheduler: turns cron rules into jobs.

Pure: ``cron.py`` and ``wallclock.py`` -> ``rule.py`` (schedule_info -> due times) -> ``decide.py`` (what is to be
done with a schedule now), and ``words.py``. With the database: ``poller.py`` and ``platform.py`` (one look at all
schedules, on our schema and on the platform's) -> ``loop.py`` (look, sleep until the next due time, look again).
``sync.py`` brings what ``@task(..., schedule=...)`` says into the table.
"""
