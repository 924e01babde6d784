"""Statements that Django's own layer makes slower or cannot make: an INSERT whose text is made once for each model, and
an UPDATE that answers columns of the rows it changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from django.db import connection, models, transaction

Row = TypeVar("Row", bound=models.Model)


def insert(rows: Sequence[models.Model], replacing: tuple[str, ...] = ()) -> None:
    """Write complete new rows of one model. Raises IntegrityError; then none of them is there. Where a row of the same
    id is there already and fields are named in `replacing`, these get the new values instead.

    What `bulk_create` does for rows that have their primary key, without compiling the statement anew for each request
    and without a transaction of its own: one round trip instead of three (docs/decisions/0006). It sends no signals.
    """
    head, one, fields = _statement(type(rows[0]))
    values = [value for row in rows for value in _values(row, fields)]
    with connection.cursor() as cursor:
        cursor.execute(head + ", ".join([one] * len(rows)) + _on_conflict(type(rows[0]), replacing), values)
    for row in rows:
        row._state.adding, row._state.db = False, connection.alias


@cache
def _on_conflict(model: type[models.Model], replacing: tuple[str, ...]) -> str:
    if not replacing:
        return ""
    columns = [connection.ops.quote_name(_column(model, name)) for name in replacing]
    return " ON CONFLICT (id) DO UPDATE SET " + ", ".join(f"{column} = EXCLUDED.{column}" for column in columns)


def _column(model: type[models.Model], field: str) -> str:
    return str(model._meta.get_field(field).column)  # type: ignore[union-attr]


def _values(row: models.Model, fields: Sequence[Any]) -> list[Any]:
    return [field.get_db_prep_save(field.pre_save(row, add=True), connection) for field in fields]


@cache
def _statement(model: type[models.Model]) -> tuple[str, str, Sequence[Any]]:
    fields = model._meta.local_concrete_fields
    quote = connection.ops.quote_name
    columns = ", ".join(quote(str(field.column)) for field in fields)
    head = f"INSERT INTO {quote(model._meta.db_table)} ({columns}) VALUES "
    return head, f"({', '.join(['%s'] * len(fields))})", fields


@dataclass(frozen=True)
class Sql:
    """A piece of a statement: the value of a column, or a condition of its own. `%s` stand for `values`."""

    text: str
    values: tuple[object, ...] = ()


@dataclass(frozen=True)
class AnyOf:
    """In `where`: one of these texts."""

    values: tuple[str, ...]


def update(
    model: type[models.Model],
    changes: Mapping[str, object],
    where: Mapping[str, object],
    *conditions: Sql,
    returning: str = "",
) -> list[tuple[Any, ...]]:
    """UPDATE the rows whose fields have the values of `where` (one of them, where that is AnyOf) and for which the
    `conditions` hold; the answered columns of each, by default all in the order of the model. Raises django.db.Error.

    What `QuerySet.update` does, without building the query anew each time: a tenth of its time (docs/decisions/0006).
    """
    text = _update_text(model, tuple(map(_form, changes.items())), tuple(map(_form, where.items())))
    values: list[Any] = [value for item in (*changes.items(), *where.items()) for value in _parameters(model, *item)]
    extra = "".join(f" AND ({condition.text})" for condition in conditions)
    values += [value for condition in conditions for value in condition.values]
    with transaction.mark_for_rollback_on_error(connection.alias), connection.cursor() as cursor:
        cursor.execute(f"{text}{extra} RETURNING {returning or all_columns(model)}", values)
        return list(cursor.fetchall())


def select(model: type[Row], where: Mapping[str, object]) -> list[Row]:
    """The rows whose fields have these values (NULL for Sql("IS NULL")), in no order."""
    text = _select_text(model, tuple(map(_form, where.items())))
    with connection.cursor() as cursor:
        values: list[Any] = [value for item in where.items() for value in _parameters(model, *item)]
        cursor.execute(text, values)
        return [row_of(model, columns) for columns in cursor.fetchall()]


def row_of(model: type[Row], columns: Sequence[object]) -> Row:
    """The row, as if the model had read it, from all its columns as a statement of this module answers them."""
    fields = model._meta.concrete_fields
    values = [
        field.from_db_value(value, None, connection) if hasattr(field, "from_db_value") else value
        for field, value in zip(fields, columns, strict=True)
    ]
    return model.from_db(connection.alias, [field.attname for field in fields], values)


@cache
def all_columns(model: type[models.Model]) -> str:
    """The columns of a model in its order, for RETURNING."""
    return ", ".join(connection.ops.quote_name(str(field.column)) for field in model._meta.concrete_fields)


_Form = tuple[str, str]  # a field, and the text of a piece of SQL or the kind of its value


def _form(item: tuple[str, object]) -> _Form:
    name, value = item
    if isinstance(value, Sql):
        return name, value.text
    return name, "list" if isinstance(value, AnyOf) else "value"


@cache
def _update_text(model: type[models.Model], changes: tuple[_Form, ...], where: tuple[_Form, ...]) -> str:
    quote = connection.ops.quote_name

    def column(name: str) -> str:
        return quote(_column(model, name))

    own = ("value", "list")
    sets = ", ".join(f"{column(name)} = {'%s' if how in own else how}" for name, how in changes)
    table = quote(model._meta.db_table)
    holds = _holds(model, where)
    return f"UPDATE {table} SET {sets} WHERE {holds}"


@cache
def _select_text(model: type[models.Model], where: tuple[_Form, ...]) -> str:
    table = connection.ops.quote_name(model._meta.db_table)
    return f"SELECT {all_columns(model)} FROM {table} WHERE {_holds(model, where)}"


def _holds(model: type[models.Model], where: tuple[_Form, ...]) -> str:
    quote, tests = connection.ops.quote_name, {"value": "= %s", "list": "= ANY(%s)"}
    return " AND ".join(f"{quote(_column(model, name))} {tests.get(how, how)}" for name, how in where)


def _parameters(model: type[models.Model], name: str, value: object) -> Sequence[object]:
    if isinstance(value, Sql):
        return value.values
    if isinstance(value, AnyOf):
        return (list(value.values),)
    field: Any = model._meta.get_field(name)
    return (field.get_db_prep_save(getattr(value, "pk", value), connection),)
