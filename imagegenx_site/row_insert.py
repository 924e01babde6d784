"""Rows written by one INSERT whose text is made once for each model.

What `bulk_create` does for rows that have their primary key, without compiling the statement anew for each request and
without a transaction of its own: one round trip instead of three (docs/decisions/0006).
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from django.db import connection, models


def insert(rows: Sequence[models.Model]) -> None:
    """Write complete new rows of one model. Raises IntegrityError; then none of them is there.

    As `bulk_create` does, it sends no signals.
    """
    head, one, fields = _statement(type(rows[0]))
    values = [value for row in rows for value in _values(row, fields)]
    with connection.cursor() as cursor:
        cursor.execute(head + ", ".join([one] * len(rows)), values)
    for row in rows:
        row._state.adding, row._state.db = False, connection.alias


def _values(row: models.Model, fields: Sequence[Any]) -> list[Any]:
    return [field.get_db_prep_save(field.pre_save(row, add=True), connection) for field in fields]


@cache
def _statement(model: type[models.Model]) -> tuple[str, str, Sequence[Any]]:
    fields = model._meta.local_concrete_fields
    quote = connection.ops.quote_name
    columns = ", ".join(quote(str(field.column)) for field in fields)
    head = f"INSERT INTO {quote(model._meta.db_table)} ({columns}) VALUES "
    return head, f"({', '.join(['%s'] * len(fields))})", fields
