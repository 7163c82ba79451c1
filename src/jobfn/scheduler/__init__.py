"""The scheduler: enqueue jobs by cron rules.

Pure modules, in the order of the data: ``cron.py`` and ``wallclock.py`` -> ``rule.py`` (``schedule_info`` to due times)
-> ``decide.py`` (what to do with a schedule now). ``humanize.py`` describes a schedule in English.

With the database: ``poller.py`` and ``platform_poller.py`` (poll all schedules once, on jobfn's schema and on the
platform's) -> ``scheduler.py`` (poll, sleep until the next due time, repeat). ``sync.py`` writes the schedules of
``@task(..., schedule=...)`` to the database.
"""
