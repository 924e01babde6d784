"""The repairs that make Redis agree with Postgres again, whatever was lost: one file each, run by the reconciler.

The rows say what is to be done; buffer entries and messages are copies that a crash, a flush or a full disk can take
away.

    every     repair         what it finds, what it does
    0.1 s     lost_workers   left by expired workers (gq:resend_tickets, gq:given_up, gq:to_cancel, gq:lost_workers):
                             rows moved, tickets sent anew, alerts raised
    0.2 s     revoked        tasks whose tickets were revoked through Celery: cancelled
    0.5 s     leases         workers whose lease ran out: their tasks are requeued
    0.5 s     redis_epoch    Redis was emptied: every queued row is enqueued again
    1 s       processes      processes without a sign of life, alerts whose pool is whole again
    1 s       expiry         rows that waited too long
    1 s       cancels        open rows whose cancel was asked for and not yet obeyed
    1 s       stages         rows after the GPU that nobody works on: their next messages are sent again
    1 s       audit          queued rows that Redis does not know, has in another class or has no ticket of; running
                             rows that no worker holds

While no task is open they run two to ten times less often (`idle_period` in schedule.py).

Every repair only repeats what somebody else may have done already; each move is fenced by the row itself. Errors of
Redis and Postgres pass through: the reconciler tries again later. The same table as code: schedule.py.
"""
