"""An UPDATE that answers columns of the rows it changed, in one statement: Django's own answers their number only."""

from typing import Any

from django.db import connection, models, transaction
from django.db.models import sql


def update_returning(rows: "models.QuerySet[Any]", columns: str, **changes: Any) -> list[tuple[Any, ...]]:
    """`rows.update(**changes)`, with the new values of `columns` (SQL) of each row. Raises django.db.Error."""
    query: Any = rows.query.chain(sql.UpdateQuery)
    query.add_update_values(changes)
    query.annotations = {}
    text, values = query.get_compiler(connection=connection).as_sql()
    with transaction.mark_for_rollback_on_error(connection.alias), connection.cursor() as cursor:
        cursor.execute(f"{text} RETURNING {columns}", values)
        return list(cursor.fetchall())
