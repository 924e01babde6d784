"""Leases of jobs that one process at a time may do: rows, not advisory locks, because behind a pooler (pgbouncer in
transaction mode) a session's lock belongs to a connection that others use too.

The clock is the server's. A holder that does not renew in time has lost it and must not rely on it: what it does
meanwhile must be harmless beside its successor, as the fenced moves of generation/tasks/states.py are.
"""

from django.db import connection, models


class JobLease(models.Model):
    """`owner` is unique for each start of a process; the job is free from `until` on."""

    name = models.CharField(max_length=50, primary_key=True)
    owner = models.CharField(max_length=100)
    until = models.DateTimeField()


_TAKE = """
    INSERT INTO generation_joblease AS held (name, owner, until)
    VALUES (%(name)s, %(owner)s, clock_timestamp() + make_interval(secs => %(seconds)s))
    ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, until = excluded.until
       WHERE held.owner = excluded.owner OR held.until <= clock_timestamp()
    RETURNING 1"""


def take(name: str, owner: str, seconds: float) -> bool:
    """Take the job, or renew it; whether it is this owner's now. Raises django.db.Error."""
    with connection.cursor() as cursor:
        cursor.execute(_TAKE, {"name": name, "owner": owner, "seconds": seconds})
        return cursor.fetchone() is not None


def release(name: str, owner: str) -> None:
    """Give the job up, if it is this owner's. Raises django.db.Error."""
    JobLease.objects.filter(name=name, owner=owner).delete()
