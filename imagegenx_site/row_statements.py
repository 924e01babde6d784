"""Statements that Django's own layer makes slower or cannot make: an INSERT whose text is made once for each model, and
an UPDATE that answers columns of the rows it changed.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from django.db import connection, models, transaction
from django.db.models import sql


def insert(rows: Sequence[models.Model]) -> None:
    """Write complete new rows of one model. Raises IntegrityError; then none of them is there.

    What `bulk_create` does for rows that have their primary key, without compiling the statement anew for each request
    and without a transaction of its own: one round trip instead of three (docs/decisions/0006). It sends no signals.
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


def update_returning(rows: "models.QuerySet[Any]", columns: str, **changes: Any) -> list[tuple[Any, ...]]:
    """`rows.update(**changes)`, with the new values of `columns` (SQL) of each row. Raises django.db.Error."""
    query: Any = rows.query.chain(sql.UpdateQuery)
    query.add_update_values(changes)
    query.annotations = {}
    text, values = query.get_compiler(connection=connection).as_sql()
    with transaction.mark_for_rollback_on_error(connection.alias), connection.cursor() as cursor:
        cursor.execute(f"{text} RETURNING {columns}", values)
        return list(cursor.fetchall())
