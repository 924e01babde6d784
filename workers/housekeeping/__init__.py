"""What runs by the clock, one file a job, as Celery functions `maintenance.*` on queue io. The table: schedule.py."""
