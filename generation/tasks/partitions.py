"""The daily partitions of the tables that grow: tasks, images, deliveries.

Each is `PARTITION BY RANGE (id)`: an id is a UUIDv7 that begins with its time, so a day is a range of ids, the
primary key stays plain, and a lookup by id touches one partition. A DEFAULT partition catches what no day was made
for. Children (images, deliveries) carry ids of their task's ms, so all rows of a day go together, children first
because of the foreign keys.

    generation_task            parent, empty itself
    generation_task_default    rows of days without a partition; emptied when the day is made
    generation_task_20261120   first_id_of(2026-11-20) <= id < first_id_of(2026-11-21)
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any

from django.db import OperationalError, connection, transaction
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations import CreateModel

from imagegenx_site.ids import first_id_of

TABLES = ("generation_task", "generation_image", "generation_delivery")
_LOCK = 0x1619_0001  # advisory lock: one process at a time makes or drops partitions
_PAUSES_S = (0.1, 0.5, 2.0)  # between tries to make a day's partitions


class CreatePartitionedModel(CreateModel):
    """`CreateModel` whose table is partitioned by range of its id and has a DEFAULT partition."""

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: Any, to_state: Any
    ) -> None:
        """Make the parent table and its DEFAULT partition."""
        with _partitioned(schema_editor):
            super().database_forwards(app_label, schema_editor, from_state, to_state)
        table = to_state.apps.get_model(app_label, self.name)._meta.db_table
        schema_editor.execute(f'CREATE TABLE "{table}_default" PARTITION OF "{table}" DEFAULT')


@contextmanager
def _partitioned(schema_editor: BaseDatabaseSchemaEditor) -> Iterator[None]:
    plain = schema_editor.sql_create_table
    schema_editor.sql_create_table = plain + ' PARTITION BY RANGE ("id")'
    try:
        yield
    finally:
        schema_editor.sql_create_table = plain


def ensure(first: date, days: int) -> list[str]:
    """Make the partitions of `days` days from `first` on, where missing; the names of those made. Raises
    OperationalError when others held the tables at every try.
    """
    return [name for offset in range(days) for name in _ensure_day(first + timedelta(days=offset))]


def _ensure_day(day: date) -> list[str]:
    """A partition is attached with locks that a read of several tables can cross. This side gives way and tries again,
    before Postgres looks for deadlocks (1 s) and ends the other one, which may be a client's request.
    """
    for pause in _PAUSES_S:
        try:
            return _ensure_day_now(day)
        except OperationalError:
            time.sleep(pause)
    return _ensure_day_now(day)


def _ensure_day_now(day: date) -> list[str]:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        cursor.execute("SET LOCAL lock_timeout = '500ms'")
        present = existing_days()
        return _make_day(cursor, day, [table for table in TABLES if day not in present[table]])


def _make_day(cursor: Any, day: date, tables: list[str]) -> list[str]:
    """The day's partitions, with the rows that waited in DEFAULT.

    1 children leave DEFAULT before their tasks, so that nothing refers to a row that moves; 2 the foreign keys'
    checks run now, because a table with pending checks can't be attached; 3 tasks are attached before their children,
    which refer to them.
    """
    names = {table: f"{table}_{day:%Y%m%d}" for table in tables}
    bounds = [str(first_id_of(day)), str(first_id_of(day + timedelta(days=1)))]
    for table, name in reversed(names.items()):
        cursor.execute(f'CREATE TABLE "{name}" (LIKE "{table}" INCLUDING DEFAULTS INCLUDING CONSTRAINTS)')
        cursor.execute(
            f'WITH moved AS (DELETE FROM "{table}_default" WHERE id >= %s AND id < %s RETURNING *)'
            f' INSERT INTO "{name}" SELECT * FROM moved',
            bounds,
        )
    cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    for table, name in names.items():
        cursor.execute(f'ALTER TABLE "{table}" ATTACH PARTITION "{name}" FOR VALUES FROM (%s) TO (%s)', bounds)
    cursor.execute("SET CONSTRAINTS ALL DEFERRED")
    return list(names.values())


def drop_before(day: date) -> list[str]:
    """Drop the partitions of all days before `day`, children first; the names of those dropped.

    Their objects in the store must be gone by then: nothing points at them afterwards.
    """
    dropped = []
    for table in reversed(TABLES):
        for old in sorted(existing_days()[table]):
            if old < day:
                name = f"{table}_{old:%Y%m%d}"
                with transaction.atomic(), connection.cursor() as cursor:
                    cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
                    # Behind a long query the lock would queue, and everybody else behind it: rather try again later.
                    cursor.execute("SET LOCAL lock_timeout = '3s'")
                    cursor.execute(f'ALTER TABLE "{table}" DETACH PARTITION "{name}"')
                    cursor.execute(f'DROP TABLE "{name}"')
                dropped.append(name)
    return dropped


def existing_days() -> dict[str, set[date]]:
    """The days that have a partition, by table."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT parent.relname, child.relname FROM pg_inherits JOIN pg_class parent ON parent.oid = inhparent"
            " JOIN pg_class child ON child.oid = inhrelid WHERE parent.relname = ANY(%s)",
            [list(TABLES)],
        )
        rows = cursor.fetchall()
    days: dict[str, set[date]] = {table: set() for table in TABLES}
    for table, child in rows:
        found = re.fullmatch(re.escape(table) + r"_(\d{4})(\d\d)(\d\d)", child)
        if found:
            days[table].add(date(*map(int, found.groups())))
    return days
