"""What the admin's pages share: lists that stay fast on tables of any size, and rows that only the product writes."""

from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property

_COUNTED: Final = 10_000  # rows counted at most: a count over the whole table would read every partition
Choices = Sequence[tuple[str, str]]


class CappedPaginator(Paginator):
    """Counts no further than _COUNTED: lists stay fast however many rows there are."""

    @cached_property
    def count(self) -> int:
        rows = cast(QuerySet, self.object_list)
        return len(rows[:_COUNTED].values_list("pk"))


class ReadOnly:
    """Rows of the task's way are made and moved by the product alone."""

    def has_add_permission(self, *args: Any, **kwargs: Any) -> bool:
        return False

    def has_change_permission(self, *args: Any, **kwargs: Any) -> bool:
        return False

    def has_delete_permission(self, *args: Any, **kwargs: Any) -> bool:
        return False


def one_of(name: str, choices: Callable[[], Choices]) -> type[admin.SimpleListFilter]:
    """A filter whose values are known. Django's own would look for the distinct values in the whole table."""

    class OneOf(admin.SimpleListFilter):
        title = name
        parameter_name = name

        def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
            return choices()

        def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
            return queryset.filter(**{name: self.value()}) if self.value() else queryset

    return OneOf
